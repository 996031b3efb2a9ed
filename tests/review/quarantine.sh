#!/usr/bin/env bash
# quarantine.tsv: written beside --out, never into the data, and read again to leave out what it names.
. "$(dirname "$0")/setup.sh"
samples data
lists
run=("$teacher" finetune --config lists.yaml --data L --dry-run)
head -c 3000 L/wave/v_wave_g01_c01.avi >half && mv half L/wave/v_wave_g01_c01.avi
: >L/clap/v_clap_g02_c01.avi
cp L/clap/v_clap_g03_c01.avi keep

refused 3 '2 damaged files, named above; --out DIR' "$kd" dataset check --data L -q
[ -z "$(find L -name 'quarantine*')" ] || failed "check wrote into the data"
"$kd" dataset check --data L --out q -q >out.txt 2>err.txt
[ $? -eq 3 ] && [ "$(grep -c 'avi' q/quarantine.tsv)" -eq 2 ] || failed "quarantine.tsv: $(cat q/quarantine.tsv)"

accepted "${run[@]}" --set data.quarantine=q/quarantine.tsv
grep -q 'train: 6 samples of 8 listed.*left out: 2 quarantined' err.txt out.txt ||
    failed "not left out: $(grep -h train: err.txt out.txt)"
accepted "$teacher" finetune --config lists.yaml --data L --out o -q --set data.quarantine=q/quarantine.tsv
refused 3 'cannot|damaged|empty|truncated' "$teacher" finetune --config lists.yaml --data L --out p -q
# by hand: a key a line, or a path; BOM and CRLF; pairs of unequal length are no damage
printf '\357\273\277v_wave_g01_c01\r\n# a comment\r\nclap/v_clap_g02_c01.avi\r\n' >hand.txt
accepted "${run[@]}" --set data.quarantine=hand.txt
grep -q 'left out: 2 quarantined' err.txt out.txt || failed "a list by hand: $(grep -h train: err.txt out.txt)"
printf 'key\tkind\tpath\tproblem\nv_wave_g02_c01\tunequal\twave/v_wave_g02_c01.avi\t1 and 2\n' >unequal.tsv
accepted "${run[@]}" --set data.quarantine=unequal.tsv
grep -q 'train: 8 samples of 8 listed' err.txt out.txt || failed "a pair of unequal length was left out"
refused 3 'none.tsv' "${run[@]}" -q --set data.quarantine=none.tsv

finish
