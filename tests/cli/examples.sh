#!/usr/bin/env bash
# Every command line and every --set that --help shows is one that the program takes.  A line is parsed, not run
# (--describe=parse); what it sets is checked by `kd config check`, with every preset where the line names no recipe;
# `kd config` itself is run.
# Call: examples.sh BUILD_DIR SOURCE_DIR
. "$(dirname "$0")/lib.sh"
. "$here/walk.sh"
cd "$source" || exit 1

lines=0 sets=0
commands=$(all_commands) || failed "the commands cannot be listed"
while read -r command; do
    help=$("$build"/$command --help)
    while read -r line; do
        [ -n "$line" ] || continue
        lines=$((lines + 1))
        if [[ $line == "kd config "* ]]; then
            "$build"/$line >"$work/out.txt" 2>&1 || failed "$line: $(head -n 3 "$work/out.txt")"
            continue
        fi
        "$build"/$line --describe=parse >"$work/out.txt" 2>&1 || failed "$line: $(head -n 3 "$work/out.txt")"
        config=$(sed -n 's/.* --config \([^ ]*\).*/\1/p' <<<"$line")
        for set in $(grep -oE -- '--set [^ ]+' <<<"$line" | cut -c 7-); do
            "$kd" config check "$config" --set "$set" >"$work/out.txt" 2>&1 || failed "$line: $(cat "$work/out.txt")"
        done
        for file in $(grep -oE 'configs/[^ ]+' <<<"$line"); do
            [ -e "$file" ] || failed "$line: there is no $file"
        done
    done < <(sed -n '/^examples:$/,$ s/^  //p' <<<"$help")
    for set in $(grep -v '^usage' <<<"$help" | sed '/^examples:$/,$d' |
        grep -oE -- '--set [a-z_.]+=[^ ]+' | cut -c 7-); do
        sets=$((sets + 1))
        "$kd" config check configs/{teacher,student,distill,demo}/*.yaml --set "$set" >"$work/out.txt" 2>&1 ||
            failed "$command --help shows --set $set: $(tail -n 1 "$work/out.txt")"
    done
done <<<"$commands"
[ "$lines" -ge 8 ] || failed "$lines example lines found, expected 8 or more"
[ "$sets" -ge 5 ] || failed "$sets examples of --set found, expected 5 or more"

# What a command that lacks its recipe names as one.
for program in "teacher finetune" "distill train"; do
    file=$("$build"/$program --out x 2>&1 | grep -oE 'configs/[^ ]+' | head -n 1)
    [ -e "$file" ] || failed "$program names the recipe '$file', which is not there"
done
# The other way round: a wrong line is refused.
for line in "teacher finetune --confg x --describe=parse" "kd config check --set a=b --describe=parse"; do
    ! "$build"/$line >/dev/null 2>&1 || failed "accepted: $line"
done
say "$lines command lines and $sets --set texts of --help"
finish
