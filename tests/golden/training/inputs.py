"""Writes data/: videos, skeletons and lists, by integer arithmetic alone, so that every machine gets the same bytes.

A video is an AVI file of raw pictures: what a decoder makes of it does not depend on the decoder.
"""
import os
import struct

CLASSES, TRAIN, VAL = 3, 9, 3  # one training sample more than the steps of an epoch take
SIDE, VIDEO_FRAMES = 16, 5
JOINTS, SKELETON_FRAMES = 25, 8
UNLABELLED = ["s00", "s02", "s04", "s05", "s06", "s07"]  # of the training half, for the run with few labels
SAMPLES = [("s%02d" % i, i % CLASSES, i < TRAIN) for i in range(TRAIN + VAL)]


def noise(sample, i):
    """0 .. 2^16 - 1, from the sample's number and a position."""
    x = (sample * 0x9E3779B1 + i * 0x85EBCA6B + 0x1B873593) & 0xFFFFFFFF
    x ^= x >> 15
    x = x * 0x2C1B3C6D & 0xFFFFFFFF
    x ^= x >> 12
    return (x * 0x297A2D39 & 0xFFFFFFFF) >> 16


def picture(sample, label, frame):
    """RGB bytes of a frame, top row first: a bright square that moves as the class says, on a coloured ground."""
    left, top = (noise(sample, 0) >> 13) + (2 * frame, 0, frame)[label], (noise(sample, 1) >> 13) + (0, 2 * frame, frame)[label]
    ground = [noise(sample, 2 + c) >> 10 for c in range(3)]
    rows = []
    for y in range(SIDE):
        for x in range(SIDE):
            inside = left <= x < left + 5 and top <= y < top + 5
            rows += [min(255, (150 if inside else 20) + ground[c] + 4 * ((x * (c + 1) + y) % 5)) for c in range(3)]
    return rows


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)


def avi(frames):
    """Raw BGR pictures, bottom row first, 25 a second."""
    size = SIDE * SIDE * 3
    main = struct.pack("<14I", 40000, size * 25, 0, 0x10, len(frames), 0, 1, size, SIDE, SIDE, 0, 0, 0, 0)
    stream = b"vids" + struct.pack("<4sIHHIIIIIIII4H", b"\0\0\0\0", 0, 0, 0, 0, 1, 25, 0, len(frames), size, 0, 0, 0, 0,
                                   SIDE, SIDE)
    bitmap = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, 0, size, 0, 0, 0, 0)
    header = b"hdrl" + chunk(b"avih", main) + chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", bitmap))
    movie, index = b"movi", b""
    for rgb in frames:
        rows = [rgb[3 * SIDE * y:3 * SIDE * (y + 1)] for y in reversed(range(SIDE))]
        bgr = bytes(row[3 * x + 2 - c] for row in rows for x in range(SIDE) for c in range(3))
        index += struct.pack("<4sIII", b"00db", 0x10, len(movie), size)
        movie += chunk(b"00db", bgr)
    return chunk(b"RIFF", b"AVI " + chunk(b"LIST", header) + chunk(b"LIST", movie) + chunk(b"idx1", index))


def joint(sample, label, frame, j):
    """Coordinates in centimetres."""
    swing = frame * ((j % 5) - 2)
    at = [(j % 5) * 12 - 24, (j // 5) * 20 - 40, 300]
    at[label] += 2 * swing
    return [at[c] + noise(sample, 100 + 3 * j + c) // 6554 + (frame * noise(sample, 200 + j) // 65536 if c == 1 else 0)
            for c in range(3)]


def skeleton(sample, label):
    lines = [str(SKELETON_FRAMES)]
    for t in range(SKELETON_FRAMES):
        lines += ["1", "7 0 0 0 0 0 0 0 0 2", str(JOINTS)]
        for j in range(JOINTS):
            lines.append("%s 0 0 0 0 0 0 0 0 2" % " ".join("%d.%02d" % divmod(v, 100) if v >= 0 else
                                                           "-%d.%02d" % divmod(-v, 100)
                                                           for v in joint(sample, label, t, j)))
    return "\n".join(lines) + "\n"


def write(folder):
    os.makedirs(folder, exist_ok=True)
    for i, (name, label, _) in enumerate(SAMPLES):
        with open(os.path.join(folder, name + ".avi"), "wb") as f:
            f.write(avi([picture(i, label, t) for t in range(VIDEO_FRAMES)]))
        with open(os.path.join(folder, name + ".skeleton"), "w") as f:
            f.write(skeleton(i, label))
    with open(os.path.join(folder, "unlabelled.txt"), "w") as f:
        f.write("".join(name + "\n" for name in UNLABELLED))
    for which, train in (("train", True), ("val", False)):
        with open(os.path.join(folder, which + ".csv"), "w") as f:
            f.write("".join("%s.avi %d\n" % (name, label) for name, label, t in SAMPLES if t == train))


if __name__ == "__main__":
    write(os.path.join(os.path.dirname(os.path.abspath(__file__)), "data"))
