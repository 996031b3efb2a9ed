"""Made recordings and what CTR-GCN's denoising leaves of them.

    python3 make.py CTR-GCN/data/ntu      # get_raw_skes_data.py, get_raw_denoised_data.py; numpy; writes beside itself

Recordings: frame, id and xyz (millimetres, int16) of every body, in the order of the file.  golden.npz: NAME -> (T, 75)
or (T, 150), metres.
"""
import importlib.util
import os
import sys
import tempfile

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
source = os.path.abspath(sys.argv[1])
np.int = int  # NumPy before 1.24 had it
rng = np.random.default_rng(11)


def load(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(source, name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def person(frames, motion, wide=()):
    """(T, 25, 3) metres: an upright body that sways by `motion`; in the frames `wide` it lies."""
    x = rng.normal(0, 1, (1, 25, 3)) * [0.15, 0.5, 0.1] + [0, 0, 3]
    x = x + np.cumsum(rng.normal(0, 1, (frames, 1, 3)), 0) * motion + rng.normal(0, 0.01, (frames, 25, 3))
    for t in wide:
        x[t] = x[t][:, [1, 0, 2]]
    return x


# name -> frames of the file, [(id, first frame, joints)]
CASES = {
    "one": (9, [(7, 0, person(4, 0.02)), (7, 6, person(3, 0.02))]),  # frames 4 and 5 are empty
    "two": (16, [(5, 0, person(16, 0.01)), (3, 2, person(14, 0.05))]),  # the second one moves more
    "short": (20, [(1, 0, person(20, 0.02)), (2, 4, person(11, 0.5))]),
    "short_first": (20, [(1, 0, person(6, 0.2)), (2, 6, person(14, 0.02))]),
    "wide": (18, [(1, 0, person(18, 0.02)), (2, 0, person(18, 0.3, range(2, 18)))]),
    "wide_some": (18, [(1, 0, person(18, 0.05)), (2, 0, person(18, 0.02, range(0, 18, 2)))]),
    "wide_both": (14, [(1, 0, person(14, 0.3, range(14))), (2, 0, person(14, 0.02, range(14)))]),
    "relay": (30, [(1, 0, person(14, 0.05)), (2, 14, person(16, 0.02)), (3, 0, person(30, 0.03))]),
    "crowd": (32, [(1, 0, person(32, 0.06)), (2, 0, person(13, 0.05)), (3, 14, person(18, 0.02)), (4, 1, person(12, 0.01))]),
    "late": (30, [(1, 3, person(13, 0.02)), (2, 12, person(18, 0.05))]),
}


def rows(case):
    frames, people = case
    out = [(first + t, who, np.round(1000 * x[t]).astype(np.int16)) for who, first, x in people for t in range(len(x))]
    return frames, sorted(out, key=lambda r: r[0])


def text(frames, bodies):
    lines = [str(frames)]
    for t in range(frames):
        mine = [b for b in bodies if b[0] == t]
        lines.append(str(len(mine)))
        for _, who, x in mine:
            lines += ["%d 0 1 1 1 1 0 0 0 2" % who, "25"]
            lines += ["%.3f %.3f %.3f 0 0 0 0 0 0 0 0 2" % tuple(p / 1000.0) for p in x]
    return "\n".join(lines) + "\n"


given, golden = {}, {}
os.chdir(tempfile.mkdtemp())
raw, clean = load("get_raw_skes_data"), load("get_raw_denoised_data")
for name, case in CASES.items():
    frames, bodies = rows(case)
    file = "S001C001P001R001A001" if len(case[1]) == 1 else "S001C001P001R001A050"
    open(file + ".skeleton", "w").write(text(frames, bodies))
    data = raw.get_raw_bodies_data(".", file, {}, clean.missing_skes_logger)
    if len(data["data"]) == 1:  # as get_raw_denoised_data() does
        joints, _ = clean.get_one_actor_points(list(data["data"].values())[0], data["num_frames"])
    else:
        joints, colors = clean.get_two_actors_points(data)
        joints, _ = clean.remove_missing_frames(file, joints, colors)
    golden[name] = joints
    given[name + "_frame"] = np.array([frames] + [b[0] for b in bodies], np.int32)
    given[name + "_id"] = np.array([b[1] for b in bodies], np.int32)
    given[name + "_xyz"] = np.stack([b[2] for b in bodies])
    print(name, frames, "->", joints.shape)
np.savez_compressed(os.path.join(here, "recordings.npz"), **given)
np.savez_compressed(os.path.join(here, "golden.npz"), **golden)
