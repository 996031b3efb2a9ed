#!/usr/bin/env bash
# distill export: every format of a trained student, what it says, and what it refuses; distill eval in eight bits.
. "$(dirname "$0")/setup.sh"
samples data --clips 24 # two persons
short_student 1 >s.yaml
accepted "$distill" train --config s.yaml --out run -q
has() { grep -aq "$2" "$1" || failed "$1 does not hold '$2'"; }

# ---- what is written ------------------------------------------------------------------------------------------------
accepted "$distill" export --weights run --out w.pth --threads 1
grep -q -- '-> w.pth: pth, .* tensors' out.txt || failed "export says: $(cat out.txt)"
accepted "$kd" weights info w.pth --tensors
grep -q 'fc.weight' out.txt || failed "w.pth holds no classifier"
accepted "$distill" eval --weights w.pth --config run/config.yaml --threads 1 -q
cp out.txt pth.txt
accepted "$distill" export --weights run --format safetensors --out w.safetensors --threads 1
present w.safetensors

accepted "$distill" export --weights run --out m.onnx --threads 1
grep -q -- '-> m.onnx: onnx, .* nodes of .* operators' out.txt || failed "export says: $(cat out.txt)"
for text in joint velocity bone logits features batch fc.weight 'kind: student' wave weights_sha256 \
    skeleton.frames skeleton.normalize center_spine; do has m.onnx "$text"; done
grep -aq QuantizeLinear m.onnx && failed "a file in f32 holds eight bits"
cp m.onnx first.onnx
accepted "$distill" export --weights run --out m.onnx --threads 2 --force
cmp -s m.onnx first.onnx || failed "the same weights give another file"

accepted "$distill" export --weights run --int8 --int8-samples 5 --out q.onnx --threads 1 --json
grep -q '"int8_layers":3[0-9],"calibrated":5' out.txt || failed "export --json says: $(cat out.txt)"
for text in QuantizeLinear DequantizeLinear weight_quantized weight_scale; do has q.onnx $text; done
norms() { grep -ao BatchNormalization "$1" | wc -l; }
[ "$(norms q.onnx)" -lt "$(($(norms m.onnx) / 3))" ] || failed "$(norms q.onnx) batch norms, of $(norms m.onnx) in f32"

# ---- eight bits evaluated -------------------------------------------------------------------------------------------
accepted "$distill" eval --weights run --int8 --int8-samples 5 --threads 1 --out r.json
grep -q 'int8: 3[0-9] layers, ranges of 5 training samples; in f32 top-1 .* the same first class of' out.txt ||
    failed "eval --int8 says: $(cat out.txt)"
tr -d ' \n' <r.json | grep -q '"int8":{"layers":3[0-9],"calibrated":5,"top1_f32":' || failed "report.json has no int8"
grep -q '"dtype": *"int8"' r.json || failed "report.json says another dtype"
accepted "$distill" eval --weights run --threads 1 --out f.json -q
grep -q '"int8"' f.json && failed "a report of f32 speaks of eight bits"

# ---- refused --------------------------------------------------------------------------------------------------------
refused 2 'm.onnx exists' "$distill" export --weights run --out m.onnx
refused 2 'ending in .safetensors, .pth, .pt, .bin, .onnx' "$distill" export --weights run --out m.tflite
refused 2 'x.onnx: expected a name ending in .pth' "$distill" export --weights run --format pth --out x.onnx
accepted "$distill" export --weights run --int8 --int8-samples 5 --out q.safetensors --threads 1
refused 3 'q.safetensors: expected weights in floating point, found those of .*--int8' \
    "$distill" eval --weights q.safetensors --config run/config.yaml -q
refused 2 'pth files have no form in eight bits' "$distill" export --weights run --int8 --out x.pth
refused 2 'int8-samples sets the ranges of --int8' "$distill" export --weights run --int8-samples 4 --out x.onnx
refused 2 'int8-samples sets the ranges of --int8' "$distill" eval --weights run --int8-samples 4
refused 2 'one of safetensors|pth|onnx' "$distill" export --weights run --format tflite --out x.onnx
refused 2 '--out FILE is needed' "$distill" export --weights run
refused 3 'nowhere: no such weights' "$distill" export --weights nowhere --out x.onnx
refused 3 'none: cannot list' "$distill" export --weights run --int8 --set data.root=none --out x.onnx
for f in x.onnx x.pth m.tflite; do absent $f; done
finish
