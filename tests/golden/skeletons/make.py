"""Small skeleton archives in the layouts of other toolkits, and the joints that their own readers see in them.

    python3 make.py     # numpy; writes beside itself

CTR-GCN: x (N, T, 150) of which feeders/feeder_ntu.py makes (N, T, 2, 25, 3); y one-hot.  LAST: (N, 3, T, V, M).  pyskl:
keypoint (M, T, V, C) in float16, protocols 2 to 5.  NW-UCLA: skeletons [T][20][3].  golden.npz: FORM/ID -> (T, M, V, 3).
"""
import io
import json
import os
import pickle

import numpy as np

os.chdir(os.path.dirname(os.path.abspath(__file__)))
rng = np.random.default_rng(5)
golden = {}


def bodies(frames, n, joints=25):
    """(M, T, V, 3): people who sway, the second one gone after half of the frames."""
    x = rng.normal(0, 0.3, (n, 1, joints, 3)) + np.cumsum(rng.normal(0, 0.02, (n, frames, joints, 3)), 1) + [0, 0, 3]
    if n > 1:
        x[1:, frames // 2:] = 0
    return x.astype(np.float32)


ids = ["S001C00%dP00%dR001A00%d" % (c, p, a) for c, p, a in
       [(1, 1, 1), (2, 1, 2), (3, 2, 3), (1, 2, 4), (1, 3, 1), (2, 3, 2)]]
people = {i: bodies(5 + k, 1 + k % 2) for k, i in enumerate(ids)}
label = {i: int(i[-3:]) - 1 for i in ids}
train, test = ids[:4], ids[4:]

# CTR-GCN: 12 frames, padded by zeros, two bodies; rows by subject
def rows(names):
    x = np.zeros((len(names), 12, 2, 25, 3), np.float32)
    for k, i in enumerate(names):
        p = people[i]
        x[k, :p.shape[1], :p.shape[0]] = p.transpose(1, 0, 2, 3)
    return x.reshape(len(names), 12, 150)


one_hot = lambda names: np.eye(4)[[label[i] for i in names]]
np.savez("ctrgcn.npz", x_train=rows(train), y_train=one_hot(train), x_test=rows(test), y_test=one_hot(test))
open("ctrgcn_names.txt", "w").write("".join(i + "\n" for i in ids))
data = np.concatenate([rows(train), rows(test)]).reshape(-1, 12, 2, 25, 3)
for k, i in enumerate(ids):
    golden["ctrgcn/" + i] = data[k, :people[i].shape[1]]

# pyskl and MMAction2
notes = [dict(frame_dir=i, label=label[i], total_frames=people[i].shape[1], keypoint=people[i].astype(np.float16))
         for i in ids]
notes[1]["label"] = np.int64(notes[1]["label"])
split = dict(xsub_train=train, xsub_val=test + ["S001C001P003R001A003"], xview_train=ids[1:3], xview_val=ids[:1])
for protocol in (2, 3, 4, 5):
    pickle.dump(dict(split=split, annotations=notes), open("pyskl_p%d.pkl" % protocol, "wb"), protocol)
old = open("pyskl_p2.pkl", "rb").read().replace(b"numpy._core", b"numpy.core")  # as NumPy 1 writes
open("pyskl_p2.pkl", "wb").write(old)
for i in ids:
    golden["pyskl/" + i] = people[i].astype(np.float16).astype(np.float32).transpose(1, 0, 2, 3)

# 2D of pyskl: pixels and scores, one joint not seen
flat = []
for k, i in enumerate(ids[:2]):
    xy = np.round(100 * people[i][:, :, :17, :2] + 300).astype(np.float16)
    score = rng.uniform(0.1, 1, xy.shape[:3]).astype(np.float16)
    score[0, 1, 3] = 0
    flat.append(dict(frame_dir=i, label=label[i], img_shape=(1080, 1920), original_shape=(1080, 1920),
                     total_frames=xy.shape[1], keypoint=xy, keypoint_score=score))
    both = np.concatenate([xy, score[..., None]], -1).astype(np.float32)
    golden["hrnet/" + i] = np.where(score[..., None] > 0, both, 0).transpose(1, 0, 2, 3)
pickle.dump(flat, open("hrnet.pkl", "wb"), 4)

# LAST: 8 frames, bodies last; names beside the labels, or labels alone
os.makedirs("last", exist_ok=True)
os.makedirs("last_bare", exist_ok=True)
for half, names in (("train", train), ("val", test)):
    x = np.zeros((len(names), 3, 8, 25, 2), np.float32)
    for k, i in enumerate(names):
        idx = np.minimum(np.arange(8), people[i].shape[1] - 1)
        x[k, ..., :people[i].shape[0]] = people[i][:, idx].transpose(3, 1, 2, 0)
        golden["last/" + i] = x[k].transpose(1, 3, 2, 0)
    for folder, labels in (("last", (names, [label[i] for i in names])), ("last_bare", [label[i] for i in names])):
        np.save(folder + "/" + half + "_joint.npy", x)
        pickle.dump(labels, open(folder + "/" + half + "_label.pkl", "wb"))

# the streams of last/ by LAST's preprocessing, each in the place of the joints
parent = [0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 6, 11, 10]
for half in ("train", "val"):
    joint = np.load("last/" + half + "_joint.npy")
    bone = joint - joint[:, :, :, parent]
    move = lambda x: np.concatenate([x[:, :, 1:] - x[:, :, :-1], np.zeros_like(x[:, :, :1])], 2)
    for stream, x in (("velocity", move(joint)), ("bone", bone), ("bone_velocity", move(bone))):
        os.makedirs("last_" + stream, exist_ok=True)
        np.save("last_" + stream + "/" + half + "_joint.npy", x)
        open("last_" + stream + "/" + half + "_label.pkl", "wb").write(open("last/" + half + "_label.pkl", "rb").read())

# NW-UCLA: 20 joints of one body
os.makedirs("nwucla", exist_ok=True)
for name in ("a01_s01_e00_v01", "a12_s02_e03_v03"):
    x = np.round(bodies(4, 1, 20)[0].astype(np.float64), 4)
    json.dump(dict(file_name=name, skeletons=x.tolist()), open("nwucla/" + name + ".json", "w"))
    golden["nwucla/" + name] = x.astype(np.float32)[:, None]

# an array a sample: millimetres, six numbers a joint, -32768 where there is no pose; stored and deflated
mm = {}
for i in ids:
    x = np.zeros((people[i].shape[1], 25, 6), np.int16)
    x[..., 3:6] = np.round(people[i][0] * 1000)
    x[1] = -32768
    mm[i] = x
    golden["npz/" + i] = np.where(x == -32768, 0, x.astype(np.float64) * 0.001).astype(np.float32)[:, None, :, 3:6]
np.savez_compressed("ids.npz", **mm)
np.savez("ids_metres.npz", **{i: people[i] for i in ids[:2]})
np.savez_compressed("golden.npz", **golden)
