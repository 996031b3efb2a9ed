#!/usr/bin/env bash
# No line is longer than 120 columns, in code, scripts, build files, recipes and prose.  Excepted: tables (in Markdown,
# and the rows of tests/cases), and in Markdown code blocks and links.
# usage: width.sh SOURCE_DIR [--fix]      --fix wraps prose: Markdown, comments, docstrings
set -u
cd "$1" || exit 1
command -v perl >/dev/null || { echo "skipped: perl is missing"; exit 77; }
files=$(git ls-files '*.c' '*.h' '*.cpp' '*.cu' '*.cuh' '*.inc' '*.sh' '*.py' '*.cmake' '*.yaml' '*.md' \
    '*CMakeLists.txt' .ci/run | grep -vE '^tests/(golden|cases/.*\.inc)')
perl -CSD - "${2:-}" $files <<'END'
use strict;
my ($fix, @files) = @ARGV;
my ($limit, $bad) = (120, 0);
for my $file (@files) {
    open(my $in, '<', $file) or die "$file: $!";
    chomp(my @lines = <$in>);
    close $in;
    my ($md, $code, $indented, $text, $changed) = ($file =~ /\.md$/, 0, 0, 0, 0);
    for (my $i = 0; $i < @lines; $i++) {
        $code = !$code if $md && $lines[$i] =~ /^ *```/;
        $indented = $lines[$i] =~ /^    / if $i == 0 || $lines[$i - 1] eq ''; # a block of code, not of a list
        $text = !$text if $file =~ /\.py$/ && ($lines[$i] =~ tr/"//) % 2 && $lines[$i] =~ /"""/; # a docstring
        next if length $lines[$i] <= $limit;
        next if $md && ($code || $indented || $lines[$i] =~ /^ *\|/);
        # what the continued line begins with: the indent below a list's mark, or "# "
        my $begin = $md && $lines[$i] =~ /^( *)([-*] |\d+\. )?/ ? $1 . ' ' x length($2 // '') : undef;
        if ($file =~ /\.(c|h|cpp|cu|cuh|inc)$/) { # a comment that begins its line
            $begin = $lines[$i] =~ /^( *)(\/\* | \* )/ ? "$1 * " : undef;
        } elsif ($lines[$i] =~ /^( *)# /) {
            $begin = "$1# ";
        } elsif ($text && $lines[$i] !~ /"""/ && $lines[$i] =~ /^( *)(\* )?/) {
            $begin = $1 . ' ' x length($2 // '');
        }
        # the last place to break at; a link stays whole
        my $whole = $lines[$i];
        $whole =~ s/(\[[^\]]*\]\([^)]*\))/'x' x length $1/ge if $md;
        my $at = rindex($whole, ' ', $limit);
        next if $md && $at <= length($begin // '');
        if ($fix eq '--fix' && defined $begin && $lines[$i] !~ /\S {3,}\S/) { # not of a table
            if ($at > length $begin) {
                my $rest = substr($lines[$i], $at + 1);
                $lines[$i] = substr($lines[$i], 0, $at);
                $lines[$i] =~ s/ +$//;
                # the rest goes before the next line of the same paragraph
                my $next = $lines[$i + 1] // '';
                my $mark = $md ? qr/^ *([-*] |\d+\. |#|\||```|>)/ : $text ? qr/^ *\* |"""/ : qr/^ *\*\//;
                if ($rest eq '*/') {
                    splice(@lines, $i + 1, 0, substr($begin, 0, -2) . '*/');
                } elsif ($next =~ /^\Q$begin\E[^ ]/ && $next !~ $mark) {
                    $lines[$i + 1] = "$begin$rest " . substr($next, length $begin);
                } else {
                    splice(@lines, $i + 1, 0, "$begin$rest");
                }
                $changed = 1;
                next;
            }
        }
        $bad++;
        printf "%s:%d: %d columns\n", $file, $i + 1, length $lines[$i];
    }
    if ($changed) {
        open(my $out, '>', $file) or die "$file: $!";
        print $out "$_\n" for @lines;
        close $out;
    }
}
print $bad ? "$bad lines are longer than $limit columns\n" : "no line is longer than $limit columns\n";
exit($bad ? 1 : 0);
END
