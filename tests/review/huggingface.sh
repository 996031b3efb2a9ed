#!/usr/bin/env bash
# A folder of Hugging Face as weights: config.json is the recipe, or what the recipe must agree with.
. "$(dirname "$0")/setup.sh"
tiny=$configs/teacher/tiny_pretrained.safetensors
recipe="--config $configs/teacher/tiny.yaml"
samples data
clip v.avi 1
answer() { sed -n '/^ *1\./,$p' out.txt; }

# ---- written --------------------------------------------------------------------------------------------------------
refused 2 'name the recipe with --config' "$kd" weights convert "$tiny" hf --to hf
absent hf
accepted "$kd" weights convert "$tiny" hf --to hf $recipe
grep -q 'fc_norm: trained with epsilon 1e-06, transformers computes it with 1e-05' out.txt || failed "fc_norm unsaid"
for f in config.json preprocessor_config.json model.safetensors; do present hf/$f; done
accepted "$kd" weights diff hf "$tiny"
refused 2 'hf exists' "$kd" weights convert "$tiny" hf --to hf $recipe
accepted "$kd" weights convert "$tiny" hf --to hf $recipe --force
mkdir foreign && touch foreign/thesis.tex
refused 2 'foreign exists and is no empty folder' "$kd" weights convert "$tiny" foreign --to hf $recipe --force
same() { [ "$(ls foreign)" = thesis.tex ] || failed "a foreign folder was written to"; }
same
accepted "$kd" weights convert hf again --to hf # the recipe is the folder's own
cmp -s hf/config.json again/config.json || failed "config.json changes on its way through"

# ---- read: alone, with a recipe, its file, in several files ----------------------------------------------------------
accepted "$teacher" predict --weights hf v.avi
answer >alone
accepted "$teacher" predict --weights hf/model.safetensors v.avi
answer | diff - alone >/dev/null || failed "the file in the folder gives another answer"
accepted "$teacher" predict --weights hf $recipe v.avi
answer >with
# The recipe leaves the epsilons out: those of the folder are in force, as if they were written down.
accepted "$teacher" predict --weights "$tiny" $recipe --set teacher.fc_norm_eps=1e-5 v.avi
answer | diff - with >/dev/null || failed "fc_norm_eps is not that of transformers"
sed -i 's/"layer_norm_eps": 1e-06/"layer_norm_eps": 0.01/' hf/config.json
accepted "$teacher" predict --weights hf $recipe v.avi
answer >large
cmp -s large with && failed "layer_norm_eps of config.json has no effect"
accepted "$teacher" predict --weights "$tiny" $recipe --set teacher.norm_eps=0.01 --set teacher.fc_norm_eps=1e-5 v.avi
answer | diff - large >/dev/null || failed "layer_norm_eps of config.json is not norm_eps"
sed -i 's/"layer_norm_eps": 0.01/"layer_norm_eps": 1e-06/' hf/config.json

mkdir shards
cp hf/*config.json shards
cp hf/model.safetensors shards/model-00001-of-00001.safetensors
accepted "$kd" weights info hf --tensors --json
sed -n 's/.*"file_name": "\([^"]*\)".*/    "\1": "model-00001-of-00001.safetensors"/p' out.txt | sed '$!s/$/,/' >map
{ printf '{"weight_map": {\n'; cat map; printf '}}\n'; } >shards/model.safetensors.index.json
accepted "$teacher" predict --weights shards $recipe v.avi
answer | diff - with >/dev/null || failed "weights in several files give another answer"
mv shards/model-00001-of-00001.safetensors elsewhere
refused 3 'model-00001-of-00001.safetensors is missing' "$teacher" predict --weights shards $recipe v.avi

# ---- the processor of the folder: written as the recipe's pictures are made, read as far as they can be
printf 'base: %s/teacher/tiny.yaml\nvideo: {short_side: 112, resizer: pillow_bicubic}\n' "$configs" >larger.yaml
accepted "$kd" weights convert "$tiny" larger --to hf --config larger.yaml
grep -q '"shortest_edge": 112' larger/preprocessor_config.json || failed "short_side is not in the processor"
grep -q '"resample": 3' larger/preprocessor_config.json || failed "bicubic is not in the processor"
accepted "$teacher" predict --weights larger $recipe v.avi
grep -q 'size.shortest_edge 112' err.txt || failed "another short side is not told: $(cat err.txt)"
sed -i 's/"do_normalize": true/"do_normalize": false/' larger/preprocessor_config.json
refused 2 'do_normalize: expected true' "$teacher" predict --weights larger v.avi -q

# ---- a recipe that says otherwise -----------------------------------------------------------------------------------
for pair in heads=6:num_attention_heads depth=3:num_hidden_layers dim=192:hidden_size mlp_hidden=512:intermediate_size \
    patch=8:patch_size img_size=64:image_size frames=4:num_frames tubelet=4:tubelet_size norm_eps=1e-5:layer_norm_eps \
    fc_norm_eps=1e-6:fc_norm qkv_bias=false:qkv_bias pooling=cls:use_mean_pooling; do
    refused 2 "teacher.${pair%%=*}: expected .*${pair#*:} of the weights' folder says, found" \
        "$teacher" predict --weights hf --set "teacher.${pair%%:*}" v.avi
done
refused 2 'teacher.dim: expected 96, .* found 768' "$teacher" predict --weights hf --set teacher.variant=b v.avi
refused 2 'video.mean: expected \[0.485, 0.456, 0.406\], as image_mean' \
    "$teacher" predict --weights hf --set video.mean=[0.5,0.5,0.5] v.avi
# What the file holds and the folder's recipe does not use is said.
cp -r hf unbiased
sed -i 's/"qkv_bias": true/"qkv_bias": false/' unbiased/config.json
accepted "$teacher" eval --weights unbiased $recipe --data data --set data.split.train=[1,2] --threads 1
grep -q ' 8 unused: .*q_bias' err.txt || failed "unused tensors are not named: $(grep weights err.txt)"
cp -r unbiased five # transformers 5 calls the key qv_bias
sed -i 's/"qkv_bias"/"qv_bias"/' five/config.json
accepted "$teacher" eval --weights five $recipe --data data --set data.split.train=[1,2] --threads 1
grep -q ' 8 unused: .*q_bias' err.txt || failed "qv_bias of config.json has no effect: $(grep weights err.txt)"
# An editor's byte order mark and line ends.
cp -r hf edited
{ printf '\xef\xbb\xbf' && sed 's/$/\r/' hf/config.json; } >edited/config.json
accepted "$teacher" predict --weights edited $recipe v.avi
answer | diff - with >/dev/null || failed "a byte order mark in config.json changes the answer"
cp -r hf other
sed -i 's/"model_type": "videomae"/"model_type": "vivit"/' other/config.json
refused 2 "model_type: expected videomae, found 'vivit'" "$teacher" predict --weights other v.avi

# ---- class names ----------------------------------------------------------------------------------------------------
cp -r hf named
sed -i 's/"LABEL_6"/"drink water"/' named/config.json
accepted "$teacher" predict --weights named $recipe v.avi
grep -q 'LABEL_1\|drink water' out.txt || failed "no class name of id2label: $(cat out.txt)"
refused 3 "class 0 is 'LABEL_0' in the weights, 'drink' in the data set" \
    "$teacher" eval --weights named $recipe --data data --set data.split.train=[1,2] --threads 1 -q
sed -i 's/"drink water": 6/"drink water": 7/' named/config.json
refused 3 'label2id.* expected 6, as id2label says, found 7' "$teacher" predict --weights named $recipe v.avi
cp -r hf fewer
sed -i -e '/"LABEL_11"/d; s/"LABEL_10",/"LABEL_10"/; s/"LABEL_10": 10,/"LABEL_10": 10/' -e 's/"LABEL_6"/"drink"/' \
    fewer/config.json
refused 3 'expected as many class names as the classifier has classes, 12, found 11' \
    "$teacher" eval --weights fewer $recipe --data data --set data.split.train=[1,2] --threads 1 -q

# ---- the other commands ---------------------------------------------------------------------------------------------
data="--data data --set data.split.train=[1,2] --threads 1 -q"
accepted "$teacher" eval --weights hf $recipe $data --out r.json
accepted "$teacher" dump-logits --weights hf $recipe $data --out s.logits.zst
accepted "$teacher" finetune --weights hf $recipe $data --epochs 1 --out run
grep -q 'fc_norm_eps: 1e-05' run/config.yaml || failed "the run's recipe has another fc_norm_eps"
# Training may see other clips than the weights did, and says so; their shape it cannot change.
accepted "$teacher" finetune --weights hf $recipe --set teacher.img_size=64 ${data% -q} --epochs 1 --out run64 --dry-run
grep -q 'teacher.img_size: 64, where the weights were made with 96' err.txt || failed "another size is not said"
refused 2 'teacher.heads: expected 3' "$teacher" finetune --weights hf $recipe --set teacher.heads=6 $data --out run6

# ---- names of outputs -----------------------------------------------------------------------------------------------
for out in x.onnx x.ONNX x.foo x; do
    refused 2 'expected a name ending in .safetensors, .pth, .pt or .bin' "$kd" weights convert "$tiny" $out
    absent $out
done
refused 2 'only `distill export` writes ONNX' "$kd" dataset check --data data --out q.onnx
refused 2 'only `distill export` writes ONNX' "$teacher" eval --weights hf $recipe $data --out r.onnx
absent r.onnx

# ---- more layers than the recipe has; the folder of DeepSpeed; an option of another mode
refused 3 'expected no more layers than the recipe.s model has, found blocks.3' \
    "$teacher" predict --weights "$tiny" $recipe --set teacher.depth=3 v.avi -q
mkdir -p deepspeed/step9
accepted "$kd" weights convert "$tiny" deepspeed/step9/mp_rank_00_model_states.pt
printf 'step9\n' >deepspeed/latest
accepted "$kd" weights info deepspeed
printf 'step8\n' >deepspeed/latest
refused 3 "deepspeed/latest: expected the name of a folder beside it, found 'step8'" "$kd" weights info deepspeed
refused 2 'top: a submission holds the first class alone' "$teacher" predict --weights "$tiny" $recipe --top 3 \
    --submission s.csv --ids ids.txt -q
finish
