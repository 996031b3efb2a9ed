#!/usr/bin/env bash
# Recipes as people write them: accepted, or refused with what to write.
. "$(dirname "$0")/setup.sh"
recipe() { printf 'base: %s/teacher/tiny.yaml\n%b\n' "$configs" "$1" >c.yaml; }
good() { # TEXT: a recipe with it is sound
    recipe "$1"
    accepted "$kd" config check c.yaml
}
bad() { # TEXT PATTERN
    recipe "$1"
    refused 2 "$2" "$kd" config check c.yaml
}
shows() { # TEXT PATTERN: what the recipe resolves to
    recipe "$1"
    accepted "$kd" config show c.yaml
    grep -Eq -- "$2" out.txt || failed "'$1' does not give '$2'"
}
shows 'optim: {base_lr: 1e-4}' 'base_lr: 0.0001'
for yes in true True TRUE; do shows "optim: {scale_lr: $yes}" 'scale_lr: true'; done
for no in false False FALSE; do shows "optim: {scale_lr: $no}" 'scale_lr: false'; done
for word in tRUE TRue fALSE; do bad "optim: {scale_lr: $word}" "expected true or false, found '$word'"; done
for yes in yes Yes on On y 1; do bad "optim: {scale_lr: $yes}" "expected true or false, found '$yes'; write true"; done
for no in no NO off 0; do bad "optim: {scale_lr: $no}" "expected true or false, found '$no'; write false"; done
bad 'optim: {scale_lr: "true"}' 'quoted, which is text; write it without quotes'

bad 'optim: {base_lr: "1e-4"}' "optim.base_lr: expected a number .* found '1e-4', quoted, which is text"
bad 'train: {epochs: "5"}' "found '5', quoted, which is text"
bad 'optim: {base_lr: 0,001}' "'base_lr: 0,001' has a decimal comma: write 0.001"
bad 'optim:\n  base_lr: 0,001' "found '0,001'; write the decimal point: 0.001"
bad 'optim: {betas: [0,9, 0,999]}' 'found 4 items; a decimal comma'
bad 'train:\n  epochs: 1,000' "found '1,000'; a comma separates items"
bad 'train: {epochs: 010}' "found '010'; YAML readers take a leading zero for octal"
bad 'optim: {base_lr: 01.5}' "found '01.5'; YAML readers"
bad 'data: {split: {by: subject, train: [01, 02]}}' "found '01'; YAML readers"
good 'optim: {base_lr: 0.5, weight_decay: 0}'
bad 'train: {epochs: 50.0}' "found '50.0'; write 50"
bad 'train: {epochs: 1e2}' "found '1e2'; write 100"
bad 'eval: {clips: 9999}' "in \[1, 64\], found '9999'$"

bad 'data: {root: "E:\\nturgbd-videos"}' "expected text without control characters, found 'E:.nturgbd-videos'"
bad 'data: {root: "a\\x1b[31mb"}' "found 'a.x1b\[31mb'"
bad 'data: {root: "C:\\Users\\me"}' 'not YAML: .*; in double quotes a backslash begins an escape'
good 'data: {root: E:\\nturgbd-videos}'
bad "data: {root: $(printf 'x%.0s' $(seq 512))}" 'expected text of at most 511 bytes'
bad 'train:\n\tepochs: 1' 'a tab'
bad 'data: {root: None}' "'None' is text in YAML; leave the value empty or write null"
for null in null Null NULL '~' ''; do shows "data: {root: $null}" 'root: ""'; done

for word in _base_ __base__ extends; do bad "$word: other.yaml" "did you mean 'base'"; done
bad 'train: {epoch: 3}' "did you mean 'train.epochs'"
bad 'train:\n  epochs: 1\n  epochs: 2' "c.yaml:4:3: duplicate key 'epochs', first at line 3"
bad 'name: !!python/object/apply:os.system ["id"]' 'tags are not supported'
bad 'x: &a {epochs: 3}\ntrain:\n  <<: *a' 'merge keys'

# Another split than the base's leaves the base's ids behind; the same one keeps them.
printf 'data: {split: {by: subject, train: [1, 2]}}\n' >subjects.yaml
over() { printf 'base: subjects.yaml\n%b\n' "$1" >c.yaml; }
over 'data:\n  split: {by: list}\n  train_list: a\n  val_list: b'
accepted "$kd" config check c.yaml
over 'data: {split: list, train_list: a, val_list: b}'
accepted "$kd" config check c.yaml
accepted "$kd" config check subjects.yaml --set data.split.by=ntu60-xsub
over 'data: {split: {by: camera}}'
refused 2 'data.split.train: a split of this kind names its training half' "$kd" config check c.yaml
over 'data: {split: {by: subject, val: [3]}}'
accepted "$kd" config show c.yaml
grep -q 'train: \[1, 2\]' out.txt || failed "the ids of the base are gone"

# A byte order mark and CRLF are none of the reader's business.
printf '\xef\xbb\xbftrain:\r\n  epochs: 3\r\n' >c.yaml
accepted "$kd" config show c.yaml
grep -q 'epochs: 3' out.txt || failed "BOM and CRLF: $(grep epochs out.txt)"
finish
