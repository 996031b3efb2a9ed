#!/usr/bin/env bash
# The manual page and the completion of each program know every command and every option that --help shows, and the
# completion works in a shell.  Call: shells.sh BUILD_DIR SOURCE_DIR
. "$(dirname "$0")/lib.sh"
. "$here/walk.sh"

options=0
commands=$(all_commands) || failed "the commands cannot be listed"
while read -r command; do
    program=${command%% *}
    page=$build/share/man/man1/$program.1
    # the part of the page that is about this command, without troff's escapes
    part=$(sed 's/\\f[A-Z]//g; s/\\-/-/g' "$page" |
        awk -v c="$command" '/^\.SS/ { on = index($0, ".SS \"" c " [") == 1 } on')
    [ -n "$part" ] || failed "$page has no '$command'"
    . "$build/share/bash-completion/completions/$program" || failed "the completion of $program is no shell text"
    words=" $("_${program}_words" "$command") "
    for option in $("$build"/$command --help | sed -n 's/^  \(--[a-z0-9-]*\).*/\1/p'); do
        options=$((options + 1))
        grep -q -x -- "$option\( .*\)\?" <<<"$part" || failed "$page: '$command' lacks $option"
        [[ $words == *" $option "* ]] || failed "the completion of '$command' lacks $option"
    done
done <<<"$commands"
[ "$options" -ge 150 ] || failed "$options options found, expected 150 or more"

# completes "LINE" "WORDS": what bash offers at the end of the line.
completes() {
    local program
    read -ra COMP_WORDS <<<"$1"
    [[ $1 != *" " ]] || COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    program=${COMP_WORDS[0]}
    COMPREPLY=()
    "_${program}_complete"
    [ "${COMPREPLY[*]}" = "$2" ] || failed "'$1' completes to '${COMPREPLY[*]}', expected '$2'"
}
completes "kd data" "dataset"
completes "kd dataset s" "sample scan"
completes "kd dataset sample --cli" "--clips"
completes "teacher finetune --device " "auto cpu cuda"
completes "teacher finetune --config " ""
completes "teacher finetune --config x.yaml --resu" "--resume"
completes "distill train --dtype bf" "bf16"
if command -v groff >/dev/null; then
    for program in kd teacher distill; do
        warnings=$(groff -ww -z -man "$build/share/man/man1/$program.1" 2>&1)
        [ -z "$warnings" ] || failed "$program.1: $(head -n 3 <<<"$warnings")"
    done
fi
say "$options options"
finish
