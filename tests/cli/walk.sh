# Every command of the three programs, as --help names them; sourced after lib.sh.

# walk COMMAND: prints the commands at the ends of the tree ("kd dataset sample"), one a line.
walk() {
    local help verbs verb
    help=$("$build"/$1 --help) || { echo "--help of '$1' failed" >&2; return 1; }
    verbs=$(sed -n '/^commands:$/,/^$/ s/^  \([a-z-]*\) .*/\1/p' <<<"$help")
    [ -n "$verbs" ] || { echo "$1"; return 0; }
    for verb in $verbs; do
        walk "$1 $verb" || return 1
    done
}

# all_commands: of kd, teacher and distill.
all_commands() {
    walk kd && walk teacher && walk distill
}
