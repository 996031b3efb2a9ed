#!/usr/bin/env bash
# kd weights zoo: what is published, and which of it a file is.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
accepted "$kd" weights zoo
grep -Eq '^videomae-b-k400 +b +400 +86534800 +official +CC-BY-NC-4.0 ' out.txt ||
    failed "no row of a model: $(head -3 out.txt)"
accepted "$kd" weights zoo --json
[ "$(grep -o '"name"' out.txt | wc -l)" -gt 30 ] || failed "the list as JSON: $(head -c 300 out.txt)"
accepted "$kd" weights zoo videomae2-b-k710
grep -q 'sha256    unknown' out.txt || failed "a hash nobody published"
grep -q '710 classes' out.txt || failed "no classes: $(cat out.txt)"
refused 2 'videomae-q: no entry of the zoo has this name' "$kd" weights zoo videomae-q

# A file is known by its shapes, and by a hash where one is published.
command -v python3 >/dev/null || { say "no python3 to make files with: the rest is left out"; finish; }
make() { # FILE CLASSES: the tensors of ViT-S that tell its size, sparse
    python3 - "$1" "$2" <<'P'
import json, struct, sys
dim, depth, hidden, classes = 384, 12, 1536, int(sys.argv[2])
t = {"patch_embed.proj.weight": [dim, 3, 2, 16, 16], "blocks.0.mlp.fc1.weight": [hidden, dim]}
t.update({f"blocks.{i}.norm1.weight": [dim] for i in range(depth)})
if classes:
    t["head.weight"] = [classes, dim]
at, head = 0, {}
for name, shape in t.items():
    n = 4
    for d in shape:
        n *= d
    head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + n]}
    at += n
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    f.truncate(8 + len(text) + at)
P
}
make s400.safetensors 400
accepted "$kd" weights zoo --check s400.safetensors
grep -q 'may be (the shapes fit, no hash is published) videomae-s-k400$' out.txt || failed "not known: $(cat out.txt)"
grep -q 'videomae-b-k400$' out.txt && failed "ViT-S may be ViT-B"
accepted "$kd" weights zoo videomae-s-k400 --check s400.safetensors --json
grep -q '"may_be": *\["videomae-s-k400"\]' out.txt || failed "JSON: $(cat out.txt)"
"$kd" weights zoo videomae-b-k400 --check s400.safetensors >out.txt 2>err.txt
[ $? -eq 1 ] || failed "another entry is accepted"
make s60.safetensors 60
"$kd" weights zoo --check s60.safetensors >out.txt 2>err.txt
[ $? -eq 1 ] || failed "60 classes fit the zoo"
grep -q 'VideoMAE s$' out.txt && grep -q 'fits no entry of the zoo' out.txt || failed "not said: $(cat out.txt)"
make s0.safetensors 0
accepted "$kd" weights zoo --check s0.safetensors
python3 - <<'P'
import struct
head = b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
open("x.safetensors", "wb").write(struct.pack("<Q", len(head)) + head + b"1234")
P
refused 3 'expected weights of a VideoMAE' "$kd" weights zoo --check x.safetensors
finish
