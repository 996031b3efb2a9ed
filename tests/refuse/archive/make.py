"""Skeleton archives that must be refused; EXPECT says what the message names.

    python3 make.py     # numpy; writes beside itself
"""
import os
import pickle

import numpy as np

os.chdir(os.path.dirname(os.path.abspath(__file__)))
expect = []
x = np.ones((1, 3, 25, 3), np.float32)


def note(**other):
    return dict(dict(frame_dir="a", label=0, total_frames=3, keypoint=x), **other)


def pkl(name, says, value, cut=None):
    data = pickle.dumps(value, 4)
    open(name + ".pkl", "wb").write(data if cut is None else data[:cut])
    expect.append((name + ".pkl", says))


def npz(name, says, **arrays):
    np.savez(name + ".npz", **arrays)
    expect.append((name + ".npz", says))


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


pkl("call", "annotation 0: expected a dict, found a call of posix.system", [Evil()])
pkl("call_in_keypoint",
    "'keypoint': expected a NumPy array (M, T, V, C), found a call of posix.system", [note(keypoint=Evil())])
pkl("call_of_all", "expected a list of annotations or a dict that holds one, found a call", Evil())
pkl("no_annotations", "expected a list of annotations or a dict that holds one, found nothing", dict(split={}))
pkl("number", "found an int", 7)
pkl("no_samples", "an archive without a sample", [])
pkl("all_none", "an archive without a sample", [None, None])
pkl("label_text", "annotation 0: 'label': expected a class from 0 on, found a str", [note(label="wave")])
pkl("label_negative", "annotation 0: 'label': expected a class from 0 on", [note(label=-2)])
pkl("name_missing", "annotation 1: 'frame_dir': expected a name, found nothing", [note(), dict(label=0, keypoint=x)])
pkl("name_empty", "sample 0: expected a name of one line, found an empty one", [note(frame_dir="")])
pkl("keypoint_list", "'keypoint': expected a NumPy array (M, T, V, C), found a list", [note(keypoint=[[1.0]])])
pkl("keypoint_objects", "a: 'keypoint': an array of Python objects", [note(keypoint=np.array([None, 1], object))])
pkl("keypoint_flat", "'keypoint': expected numbers (M, T, V, C), found 3 dimensions", [note(keypoint=x[0])])
pkl("frames_differ", "'total_frames' is 4, 'keypoint' has 3 frames", [note(total_frames=4)])
pkl("joints_17", "expected 25 joints, found 17", [note(keypoint=np.ones((1, 3, 17, 3), np.float32))])
pkl("twice", "sample a is there twice, as row 0 and 2", [note(), note(frame_dir="b"), note()])
pkl("label_of_name", "row 0: expected label 6 of its name S001C001P001R001A007, found 5",
    [note(frame_dir="S001C001P001R001A007", label=5)])
pkl("split_list", "'split': expected a dict, found a list", dict(split=["a"], annotations=[note()]))
pkl("split_number", "split train: item 1: expected a name, found an int",
    dict(split=dict(train=["a", 3]), annotations=[note()]))
pkl("split_flat", "'split': expected a list of names under a name, found a str",
    dict(split=dict(train="a"), annotations=[note()]))
pkl("cut", "truncated?", [note()], -40)
data = pickle.dumps([note()], 4)
open("behind.pkl", "wb").write(data + b"more")
expect.append(("behind.pkl", "byte %d: expected the end behind the pickle, found 4 bytes more" % len(data)))
open("opcode.pkl", "wb").write(b"\x80\x04\x99.")
expect.append(("opcode.pkl", "pickle byte 2: opcode 0x99 is not accepted"))
shape = data.replace(b"K\x01K\x03K\x19K\x03", b"K\x01K\x03K\x19K\x04")
assert shape != data
open("shape.pkl", "wb").write(shape)
expect.append(("shape.pkl", "dtype and shape need 1200 bytes of data, the file has 900"))

npz("objects", "a: array: an array of Python objects", a=np.array([None, 1], object))
npz("flat", "b: expected numbers (T, V, C) or (M, T, V, C), found 2 dimensions", b=np.ones((3, 75)))
npz("text", "expected numbers (T, V, C) or (M, T, V, C), found 3 dimensions of kind 'U'", b=np.full((3, 25, 3), "x"))
npz("six_numbers", "expected x, y and z of a joint, found 6 numbers; data.skeleton_channels", b=np.ones((3, 25, 6)))
npz("joints_24", "expected 25 joints, found 24", b=np.ones((3, 24, 3)))
npz("no_frames", "expected 1 to 100000 frames", b=np.ones((0, 25, 3)))
npz("zeros", "no body: expected a body, found none in 3 frames", b=np.zeros((3, 25, 3)))
bad = np.ones((3, 25, 3))
bad[2, 7, 1] = np.nan
npz("nan", "frame 2, body 0, joint 7: expected a finite y of at most 100 m, found nan", b=bad)
npz("millimetres", "frame 0, body 0, joint 0: expected a finite x of at most 100 m, found 900; data.skeleton_scale",
    b=900 * np.ones((3, 25, 3)))
crc = bytearray(open("zeros.npz", "rb").read())
crc[crc.index(b"NUMPY") + 300] ^= 1
open("crc.npz", "wb").write(crc)
expect.append(("crc.npz", "b: "))
y, big = np.eye(3)[[0, 1]], np.ones((2, 3, 150), np.float32)
npz("one_hot", "y_train: row 1: expected one class, found none or several",
    x_train=big, y_train=y + [[0, 0, 0], [0, 0, 1]])
npz("one_hot_none", "y_train: row 0: expected one class", x_train=big, y_train=0 * y)
npz("labels_short", "y_train: expected 2 rows of labels, as x_train has", x_train=big, y_train=y[:1])
npz("columns", "x_train: expected floats (N, T, 2 bodies x joints x 3)", x_train=big[..., :149], y_train=y)
npz("integers", "x_train: expected floats", x_train=big.astype(np.int32), y_train=y)
npz("half_test", "no array y_test in it", x_train=big, y_train=y, x_test=big)
npz("column_major", "x_train: expected floats (N, T, 2 bodies x joints x 3), row-major",
    x_train=np.asfortranarray(big), y_train=y)

for name, data, says in (("empty", b"", "found a file of another kind"),
                         ("array.npy", b"\x93NUMPY\x01\x00", "one NumPy array"),
                         ("file.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
                         ("one.json", b'{"skeletons": []}', "one JSON file"),
                         ("short.npz", b"PK\x03\x04", "short.npz")):
    open(name, "wb").write(data)
    expect.append((name, says))
open("EXPECT", "w").write("".join("%s\t%s\n" % e for e in expect))
