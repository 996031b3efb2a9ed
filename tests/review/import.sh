#!/usr/bin/env bash
# Logits and features made elsewhere: an archive, tensors or lines become a store that teaches and reports like others.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
command -v python3 >/dev/null || { say "skipped: no python3"; exit 77; }
samples data
ls data/nturgb+d_rgb | sed 's/_rgb.avi//' | sort >ids.txt
cat >d.yaml <<Y
name: d
data: {root: data, split: {by: subject, train: [1, 2]}, num_classes: 12}
Y
import() { "$kd" logits import "$@" --teacher elsewhere --config d.yaml; }

# made.py FILE [WHAT...]: rows for the ids of ids.txt, 12 columns, features of 6 numbers; WHAT bends them.  Prints the
# right answers of persons 1 and 2 and of person 3, in per cent.
cat >made.py <<'P'
import json, math, struct, sys, zipfile
out, bent = sys.argv[1], sys.argv[2:]
ids = open("ids.txt").read().split()
views = 2 if "views" in bent else 1
def noise(i, k, v): return math.sin(7.0 * i + 3.1 * k + 1.3 * v) * 2
label = [int(i[-3:]) - 1 for i in ids]
z = [[[noise(i, k, v) + (2.5 if k == label[i] else 0) for k in range(12)] for v in range(views)]
     for i in range(len(ids))]
f = [[math.cos(i + j) for j in range(6)] for i in range(len(ids))]
def soft(x):
    e = [math.exp(a - max(x)) for a in x]
    return [a / sum(e) for a in e]
mean = [[sum(soft(v)[k] for v in row) / views for k in range(12)] for row in z]
for who in ((1, 2), (3,)):
    own = [i for i in range(len(ids)) if int(ids[i][9:12]) in who]
    print("%.2f" % (100 * sum(max(range(12), key=lambda k: mean[i][k]) == label[i] for i in own) / len(own)))
names = open("data/classes.txt").read().split("\n")[:12]
if "turned" in bent:  # columns in another order, with their names
    z = [[v[::-1] for v in row] for row in z]
    names, label = names[::-1], [11 - l for l in label]
if "prob" in bent: z = [[soft(v) for v in row] for row in z]
if "nan" in bent: z[5][0][3] = float("nan")
if "twice" in bent: ids[7] = ids[2]
if "empty" in bent: ids[4] = ""
if "fewer" in bent: ids, z, f, label = ids[:-3], z[:-3], f[:-3], label[:-3]
if "more" in bent: ids, z, f, label = ids + ["stranger"], z + z[:1], f + f[:1], label + [0]
if "wrong" in bent: label[9] = (label[9] + 1) % 12
n = len(ids)
def flat(x): return [x] if not isinstance(x, list) else [b for a in x for b in flat(a)]
if out.endswith(".npz"):
    kind = "<f2" if "half" in bent else "<f8" if "double" in bent else "<f4"
    code = {"<f2": "e", "<f4": "f", "<f8": "d"}[kind]
    def pack(x): return struct.pack("<%d%s" % (len(flat(x)), code), *flat(x))
    arrays = {"logits": (kind, (n, views, 12) if views > 1 else (n, 12), pack(z)),
              "features": (kind, (n, 6), pack(f))}
    if "no_logits" in bent: del arrays["logits"]
    width = max(map(len, ids)) or 1
    narrow = ("|S%d" % width, (n,), b"".join(i.encode().ljust(width, b"\0") for i in ids))
    arrays["ids"] = narrow if "bytes" in bent else \
        ("|O", (n,), b"\x80\x02]q\0.") if "object" in bent else \
        ("<U%d" % width, (n,), b"".join(i.encode("utf-32-le").ljust(4 * width, b"\0") for i in ids))
    if "labels" in bent or "wrong" in bent: arrays["labels"] = ("<i8", (n,), struct.pack("<%dq" % n, *label))
    if "named" in bent or "turned" in bent:
        arrays["classes"] = ("<U40", (12,), b"".join(x.encode("utf-32-le").ljust(160, b"\0") for x in names))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if "packed" in bent else zipfile.ZIP_STORED) as zf:
        for name, (descr, shape, data) in arrays.items():
            head = "{'descr': '%s', 'fortran_order': False, 'shape': %r, }" % (descr, shape)
            head += " " * (-(len(head) + 11) % 64) + "\n"
            zf.writestr(name + ".npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + data)
elif out.endswith(".jsonl"):
    with open(out, "w") as o:
        if "named" in bent: o.write(json.dumps({"classes": names}) + "\n")
        for i in range(n):
            row = {"id": ids[i], "logits": z[i] if views > 1 else z[i][0], "features": f[i], "label": label[i]}
            o.write(json.dumps(row) + "\n")
else:
    head, data = {"__metadata__": {"ids": json.dumps(ids)} if "meta" in bent else {}}, b""
    for name, shape, x in (("logits", [n, views, 12], z), ("features", [n, 6], f)):
        raw = struct.pack("<%df" % len(flat(x)), *flat(x))
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    open(out, "wb").write(struct.pack("<Q", len(text)) + text + data)
P
# values STORE: id, label, probabilities, features, to five digits
values() {
    "$kd" logits export "$1" --out v.npz --force >/dev/null && python3 - <<'P'
import struct, zipfile
z = zipfile.ZipFile("v.npz")
def array(name, code):
    raw = z.read(name + ".npy")
    data = raw[10 + struct.unpack_from("<H", raw, 8)[0]:]
    return [x for x, in struct.iter_unpack("<" + code, data)]
ids = [i.rstrip(b"\0").decode() for i in array("ids", "64s")]
labels, prob, feature = array("labels", "i"), array("prob", "f"), array("feature", "f")
for i, name in enumerate(ids):
    print(name, labels[i], *("%.5f" % p for p in prob[12 * i:12 * i + 12]),
          *("%.4f" % x for x in feature[6 * i:6 * i + 6]))
P
}

# ---- every form of the same rows gives the same store, with the accuracy that Python counted
mapfile -t right < <(python3 made.py a.npz)
accepted import a.npz --out a.logits.zst --provenance 'made by hand'
grep -q '36 rows, 0 of them of no sample; 36 samples listed: 36 done, 0 failed, 0 excluded' out.txt ||
    failed "$(cat out.txt)"
grep -q "training half: ${right[0]} %" out.txt && grep -q "validation half: ${right[1]} %" out.txt ||
    failed "top-1, expected ${right[*]}: $(cat out.txt)"
accepted "$kd" logits verify a.logits.zst
accepted "$kd" logits info a.logits.zst
grep -q "imported .*$(sha256sum a.npz | cut -c1-16): made by hand" out.txt || failed "no provenance: $(cat out.txt)"
values a.logits.zst >a.txt
[ "$(wc -l <a.txt)" -eq 36 ] || failed "rows: $(wc -l <a.txt)"
same() {
    local file=$1
    shift
    rm -f b.logits.zst
    accepted import "$file" --out b.logits.zst "$@"
    cp err.txt said.txt
    values b.logits.zst >b.txt
    same_file a.txt b.txt
    accepted "$kd" logits verify b.logits.zst
}
python3 made.py b.npz bytes packed labels double >/dev/null && same b.npz
python3 made.py b.npz turned labels >/dev/null && same b.npz
grep -q 'columns put into that of the data set, by name' said.txt || failed "the order of columns is not said"
python3 made.py b.npz prob >/dev/null && same b.npz --prob
accepted import b.npz --out p.logits.zst
grep -q 'b.npz: every row of its logits sums to 1 .* say --prob if they are' err.txt ||
    failed "not said: $(cat err.txt)"
python3 made.py b.jsonl named >/dev/null && same b.jsonl
grep -q 'as probabilities do' said.txt && failed "logits are called probabilities"
(printf '\357\273\277' && sed 's/$/\r/' b.jsonl) >w.jsonl
same w.jsonl
# What is named is there in lines, too; a class list has a line of its own.
refused 3 "b.jsonl: expected 'logit' in every line, found none" import b.jsonl --logits logit --out no.logits.zst -q
refused 3 "expected 'nope', the names of the columns, in a first line" import b.jsonl --classes nope \
    --out no.logits.zst -q
sed 's/^{"id"/{"classes": ["x", "y"], "id"/' b.jsonl >row.jsonl
refused 3 'in a first line of its own, found it beside an id' import row.jsonl --out no.logits.zst -q
refused 2 'split: val, but no data set says which half' "$kd" logits import b.jsonl --teacher t --split val \
    --out no.logits.zst -q
python3 made.py b.safetensors meta >/dev/null && same b.safetensors
python3 made.py b.safetensors >/dev/null && same b.safetensors --ids-file ids.txt
python3 -c 'import json; json.dump(open("ids.txt").read().split(), open("ids.json", "w"))'
same b.safetensors --ids-file ids.json
awk '{ print NR - 1 "\t" $0 }' data/classes.txt >map.tsv
same a.npz --class-map map.tsv
sed 's/^11\t/0\t/' map.tsv >shared.tsv
accepted import a.npz --class-map shared.tsv --out shared.logits.zst
grep -q "shared.tsv: 11 columns for 12 classes: column 0 of a.npz stands for '$(head -1 data/classes.txt)' and for" \
    err.txt || failed "a column for two classes: $(cat err.txt)"
python3 made.py h.npz half >/dev/null
accepted import h.npz --out h.logits.zst
"$kd" logits info h.logits.zst | grep -q 'logits fp16, imported\[6\] fp16' || failed "f16 does not stay f16"
mapfile -t right < <(python3 made.py v.npz views)
accepted import v.npz --out v.logits.zst --views 1x2
grep -q "validation half: ${right[1]} %" out.txt || failed "two views, expected ${right[1]}: $(cat out.txt)"
"$kd" logits info v.logits.zst | grep -q '36 with 72 views' || failed "views: $("$kd" logits info v.logits.zst)"

accepted import v.npz --out w.logits.zst --views 1x1x2
"$kd" logits info w.logits.zst | grep -q 'views      1x1x2' || failed "$("$kd" logits info w.logits.zst)"
refused 2 'views: expected CLIPSxCROPS' import v.npz --out no.logits.zst --views 1x1x3 -q

# ---- it teaches, and its report is compared with its student
short_student 1 >s.yaml
student=(--config s.yaml --set 'data.split.train=[1,2]' --set data.num_classes=12)
accepted "$distill" train "${student[@]}" --config "$configs/distill/ce_kd.yaml" --teacher-logits a.logits.zst --out s
grep -q 'teacher elsewhere .*joined 24 of 24 training samples' err.txt || failed "not joined: $(grep teacher err.txt)"
accepted import a.npz --split val --out val.logits.zst
accepted "$kd" logits report val.logits.zst --out t.json
accepted "$kd" logits report a.logits.zst --out t2.json --config d.yaml
accepted "$distill" compare t.json s/report.json --out cmp
python3 - t.json t2.json "${right[1]}" <<'P' || failed "report"
import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:3])
assert a["predictions"] == b["predictions"] and a["metrics"] == b["metrics"] and a["hashes"] == b["hashes"]
assert a["data"]["done"] == 12 and b["data"]["listed"] == 12 and a["protocol"]["half"] == "val"
assert a["model"]["parameters"] == 0 and a["model"]["name"] == "elsewhere" and a["hashes"]["weights"] is None
P

# ---- features alone teach features alone
python3 made.py f.npz no_logits >/dev/null
accepted import f.npz --out f.logits.zst
accepted "$kd" logits verify f.logits.zst
"$kd" logits info f.logits.zst | grep -q 'accuracy   none: features alone' || failed "$("$kd" logits info f.logits.zst)"
learn=("$distill" train "${student[@]}" --config "$configs/distill/ce_kd_feature.yaml" --teacher-logits f.logits.zst)
refused 3 'it holds features alone: set kd.weight and' "${learn[@]}" --out no -q
accepted "${learn[@]}" --set kd.weight=0 --out f0
grep -q 'joined 24 of 24 training samples, features alone' err.txt || failed "$(grep joined err.txt)"
refused 3 'no answer to report' "$kd" logits report f.logits.zst --config d.yaml --out no.json -q
refused 3 'which --prob is about' import f.npz --prob --out no.logits.zst -q

# ---- accounts: samples without a row, rows without a sample
python3 made.py few.npz fewer more >/dev/null
refused 3 "no row for 3 of 12 samples, the first: $(tail -3 ids.txt | head -1)" import few.npz --out no.logits.zst -q
accepted import few.npz --out few.logits.zst --set data.on_bad_sample=skip
grep -q '34 rows, 1 of them of no sample; 36 samples listed: 33 done, 3 failed, 0 excluded' out.txt ||
    failed "$(cat out.txt)"
for i in $(tail -3 ids.txt) 'stranger: no sample of the data set'; do
    grep -q "left out: $i" err.txt || failed "$i is not named"
done
accepted import few.npz --out few.logits.zst --set data.on_bad_sample=skip --json --force
python3 -c 'import json,sys; d=json.load(open("out.txt")); sys.exit(len(d["left_out"]) != 4 or d["failed"] != 3)' ||
    failed "--json: $(cat out.txt)"
accepted import few.npz --out train.logits.zst --split train
grep -q '34 rows, 1 of them of no sample; 24 samples listed: 24 done' out.txt && ! grep -q 'S003.*no sample' err.txt ||
    failed "rows of the other half: $(cat out.txt err.txt)"
accepted import a.npz --out limit.logits.zst --set data.limit=3
grep -q '36 rows, 0 of them of no sample; 36 samples listed: 6 done, 0 failed, 30 excluded' out.txt ||
    failed "rows of samples left out: $(cat out.txt)"
accepted "$kd" logits report train.logits.zst --split train --out train.json
refused 3 'name the data set with --config or --data' "$kd" logits report few.logits.zst --out no.json -q

# ---- without a data set the file must say it all
python3 made.py l.npz labels >/dev/null
python3 made.py full.npz labels named >/dev/null
bare() { "$kd" logits import "$@" --teacher elsewhere; }
refused 3 'no labels in it: name the data set' bare a.npz --out no.logits.zst -q
refused 3 'no class list in it: name the data set' bare l.npz --out no.logits.zst -q

accepted bare full.npz --out full.logits.zst
accepted "$distill" train "${student[@]}" --config "$configs/distill/ce_kd.yaml" --teacher-logits full.logits.zst \
    --out f
grep -q "made from data set '', joined to" err.txt || failed "a store of no data set joins in silence"

# ---- refusals, each with what is wrong where
bad() {
    local pattern=$1 file=$2
    shift 2
    python3 made.py "$file" "$@" >/dev/null
    refused 3 "$pattern" import "$file" --out no.logits.zst -q
}
bad "x.npz: row 5, $(sed -n 6p ids.txt): value 3 of its logits is nan" x.npz nan
bad "x.npz: id $(sed -n 3p ids.txt) is there twice, in rows 2 and 7" x.npz twice
bad 'x.npz: row 4: expected an id of 1 to 255 bytes, found 0' x.npz empty
bad 'objects \(a pickle\)' x.npz object
bad "row 9, $(sed -n 10p ids.txt): label .*, in the data set it is" x.npz wrong
python3 made.py x.npz >/dev/null
refused 3 'expected probabilities, found .*without --prob' import x.npz --prob --out no.logits.zst -q
refused 3 'no array scores' import x.npz --logits scores --out no.logits.zst -q
refused 3 'x.npz: features: expected a row of strings' import x.npz --ids features --out no.logits.zst -q
refused 3 'ids: expected \(samples, classes\).*found \(36\)' import x.npz --logits ids --out no.logits.zst -q
refused 3 'expected 5x3 views of a sample, found 1' import x.npz --views 5x3 --out no.logits.zst -q
refused 3 'another list of them' import b.jsonl --ids-file ids.txt --out no.logits.zst -q
head -20 ids.txt >short.txt
refused 3 'expected an id for each of the 36 rows' import b.safetensors --ids-file short.txt --out no.logits.zst -q
python3 made.py b.safetensors >/dev/null
refused 3 'no ids; name the array with --ids, or a file' import b.safetensors --out no.logits.zst -q
head -11 map.tsv >short.tsv
refused 3 "no column for class '$(tail -1 data/classes.txt)'" import x.npz --class-map short.tsv --out no.logits.zst -q
sed 's/^0/30/' map.tsv >off.tsv
refused 3 "off.tsv:1: expected the number of a column" import x.npz --class-map off.tsv --out no.logits.zst -q
seq 12 | sed 's/^/class /' >other.txt
refused 3 "class '$(head -1 data/classes.txt)' .* is none of its 12" import x.npz --classes-file other.txt \
    --out no.logits.zst -q
sed 's/^/x/' ids.txt >x.txt
refused 3 'none of its 36 ids is a sample of the data set: it has xS' import b.safetensors --ids-file x.txt \
    --out no.logits.zst -q
refused 2 'never replaces an input|expected the name of a logit store' import x.npz --out x.npz --force -q
refused 2 'teacher NAME' "$kd" logits import x.npz --out no.logits.zst
echo '{"id": "a", "logits": [1, 2' >cut.jsonl
refused 3 'cut.jsonl: line 1' import cut.jsonl --out no.logits.zst -q
[ -z "$(ls | grep -E '^no\.|\.tmp$|\.part')" ] || failed "left behind: $(ls)"

# ---- the example of distill/store/README.md writes what is read here
if python3 -c 'import numpy' 2>/dev/null; then
    sed -n '/^import numpy as np/,/^```/p' "$source/distill/store/README.md" | sed '$d' >example.py
    cat >>example.py <<'P'
ids = open("ids.txt").read().split()
rows = [(i, np.eye(12)[[int(i[-3:]) - 1]], np.arange(6)) for i in ids]
save("e.npz", rows, open("data/classes.txt").read().split("\n")[:12])
P
    accepted python3 example.py
    accepted import e.npz --out e.logits.zst
    grep -q 'validation half: 100.00 %' out.txt || failed "the example: $(cat out.txt)"
else
    say "not run: the example in Python, for want of numpy"
fi
finish
