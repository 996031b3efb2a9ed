#!/usr/bin/env bash
# An installation can be moved: installed, renamed and run from there, the demo finds its presets, and nothing is
# missing. Call: install.sh BUILD_DIR SOURCE_DIR
. "$(dirname "$0")/lib.sh"

cmake --install "$build" --prefix "$work/first" >install.txt 2>&1 || failed "cmake --install: $(tail -n 3 install.txt)"
mkdir moved && mv first moved/there
prefix=$work/moved/there
for file in bin/kd bin/teacher bin/distill share/lastkd/configs/demo/teacher.yaml \
    share/lastkd/configs/teacher/tiny_pretrained.safetensors share/man/man1/kd.1 share/man/man1/teacher.1 \
    share/man/man1/distill.1 share/bash-completion/completions/kd share/doc/lastkd/README.md \
    share/doc/lastkd/kernels/README.md; do
    present "$prefix/$file"
done
[ -z "$(find "$prefix/share" -type d -empty)" ] || failed "empty folders: $(find "$prefix/share" -type d -empty)"
[ "$(cd "$prefix" && find . -name '*.[ch]')" = ./include/last.h ] || failed "sources were installed"
for recipe in $(cd "$source/configs" && git ls-files '*.yaml'); do
    accepted "$prefix/bin/kd" config check "$prefix/share/lastkd/configs/$recipe"
done
# The demo's second step, with the data made small before: it names the installed recipe and loads the installed
# weights.
accepted "$prefix/bin/kd" dataset sample --clips 40 --size 32x32 --out demo/sample --quiet
"$prefix/bin/teacher" finetune --config "$prefix/share/lastkd/configs/demo/teacher.yaml" --dry-run \
    --weights "$prefix/share/lastkd/configs/teacher/tiny_pretrained.safetensors" --data demo/sample >out.txt 2>&1 ||
    failed "the demo's teacher: $(tail -n 3 out.txt)"
mv "$prefix/share/lastkd" "$prefix/share/lastkd.away"
refused 3 'demo/teacher.yaml: expected in .*/moved/there/bin/../share/lastkd/configs' "$prefix/bin/kd" demo --out demo
finish
