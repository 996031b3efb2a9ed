#!/usr/bin/env bash
# The README's table "command, starts in" names every command of the programs and nothing else, each with the file that
# describes it.  Call: commands.sh BUILD_DIR SOURCE_DIR
. "$(dirname "$0")/lib.sh"
. "$here/walk.sh"

all_commands | sort >commands.txt || failed "the commands cannot be listed"
[ "$(wc -l <commands.txt)" -ge 20 ] || failed "$(wc -l <commands.txt) commands found, expected 20 or more"
sed -n 's/^| `\([^`]*\)` | \[\([^]]*\)\](\([^)]*\)) |$/\1|\2|\3/p' "$source/README.md" | sort >table.txt
diff commands.txt <(cut -d'|' -f1 table.txt) >diff.txt || failed "README.md against --help: $(cat diff.txt)"
while IFS='|' read -r command text link; do
    [ "$text" = "$link" ] || failed "$command: the link goes to $link, the text says $text"
    grep -qF ".name = \"$command\"" "$source/$link" 2>/dev/null || failed "$command does not start in $link"
done <table.txt
say "$(wc -l <table.txt) commands"
finish
