"""timm, Pillow and OpenCV on random cases, with our draws handed over: byte for byte what pixel_cases made."""
import json
import os
import subprocess
import sys
import tempfile

import cv2
import numpy as np
import PIL
import timm
import torch
from PIL import Image
from timm.data import auto_augment, random_erasing

BUILD = sys.argv[1]


class Draws:
    """Stands in for the module `random`: gives what it was handed, in that order."""

    def __init__(self):
        self.units, self.level = [], None

    def random(self):
        return self.units.pop(0)

    def gauss(self, mean, deviation):
        return self.level

    def uniform(self, low, high):
        value = self.units.pop(0)
        assert low - 1e-12 <= value <= high + 1e-12, (low, value, high)
        return value

    def randint(self, low, high):
        value = self.units.pop(0)
        assert low <= value <= high, (low, value, high)
        return value


class Numpy:
    """Stands in for numpy inside of timm: the choice is ours."""

    def __init__(self, draws):
        self.random, self.draws, self.picked = self, draws, []

    def choice(self, operations, size, replace, p):
        assert size == len(self.picked) and replace and p is None
        return [self.handed(operations[number], out, level, negate) for number, out, level, negate in self.picked]

    def handed(self, operation, out, level, negate):
        def apply(picture):
            self.draws.units, self.draws.level = [out, negate], level
            return operation(picture)
        return apply


def posterize(picture, bits):
    """Pillow from some version on refuses 0 bits, which Pillow 9.4 and the reference's recipe allow: black."""
    global black
    if bits == 0:
        black += 1
        return picture.point([0] * 768)
    return pillows_posterize(picture, bits)


black, pillows_posterize = 0, auto_augment.ImageOps.posterize
auto_augment.ImageOps.posterize = posterize


def augment(case, data):
    draws = Draws()
    numpy = Numpy(draws)
    numpy.picked = case["ops"]
    auto_augment.random, auto_augment.np = draws, numpy
    resample = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}[case["warp"]]
    n = case["w"] * case["h"] * 3
    picture = Image.fromarray(data[:n].reshape(case["h"], case["w"], 3))
    transform = auto_augment.rand_augment_transform(case["policy"], {"interpolation": resample, "translate_const": 100})
    return np.asarray(transform(picture)).reshape(-1), data[n:2 * n]


turned = 0


def resize(case, data):
    global turned
    n, m = case["w"] * case["h"] * 3, case["ow"] * case["oh"] * 3
    picture = data[:n].reshape(case["h"], case["w"], 3)
    x, y, w, h = case["box"]
    size = (case["ow"], case["oh"])
    if case["rule"] == "opencv":
        made = cv2.resize(np.ascontiguousarray(picture[y:y + h, x:x + w]), size, interpolation=cv2.INTER_LINEAR)
    else:
        filters = {"pillow_bilinear": Image.BILINEAR, "pillow_bicubic": Image.BICUBIC}
        box = Image.fromarray(picture).crop((x, y, x + w, y + h))
        # the width, then the height; Pillow 13.0 begins with a height that shrinks much more than the width
        made = box.resize((size[0], h), filters[case["rule"]]).resize(size, filters[case["rule"]])
        turned += not np.array_equal(np.asarray(made), np.asarray(box.resize(size, filters[case["rule"]])))
    return np.asarray(made).reshape(-1), data[n:n + m]


def erase(case, data):
    frames, side = case["frames"], case["side"]
    n = frames * side * side * 3
    clip, ours = data[:8 * n].view(np.float32).reshape(2, -1)
    images = torch.from_numpy(clip.reshape(3, frames, side, side).transpose(1, 0, 2, 3).copy())
    ours = torch.from_numpy(ours.reshape(frames, side, side, 3).transpose(0, 3, 1, 2).copy())
    transform = random_erasing.RandomErasing(case["prob"], mode=case["mode"], max_count=case["max_count"], device="cpu")
    for t in range(frames):
        units, boxes = [case["draws"][t]["u"]], []
        if "count" in case["draws"][t] and case["max_count"] > 1:
            units.append(case["draws"][t]["count"])
        count = case["draws"][t].get("count", 0)
        for share, log_ratio, *at in case["draws"][t]["tries"]:
            units += [share, log_ratio, *at]
            if at:
                boxes.append(at)
        draws = random_erasing.random = Draws()
        draws.units = units
        filled = iter(range(count))
        own = random_erasing._get_pixels

        def fill(per_pixel, rand_color, patch, dtype=None, device=None, t=t, boxes=boxes, filled=filled, own=own):
            k = next(filled)
            if per_pixel:
                top, left = boxes[k]
                return ours[t, :, top:top + patch[1], left:left + patch[2]]
            if rand_color:
                return torch.tensor(case["fills"][t]["colours"][3 * k:3 * k + 3]).reshape(3, 1, 1)
            return own(per_pixel, rand_color, patch, dtype, device)

        random_erasing._get_pixels = fill
        transform(images[t])
        random_erasing._get_pixels = own
        assert not draws.units, "timm asked for fewer numbers than were drawn"
    return images.numpy().view(np.uint8).reshape(-1), ours.numpy().view(np.uint8).reshape(-1)


def main():
    print(f"timm {timm.__version__}, Pillow {PIL.__version__}, OpenCV {cv2.__version__}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([os.path.join(BUILD, "tests", "pixel_cases"), folder], check=True)
        data = np.fromfile(os.path.join(folder, "bytes.bin"), np.uint8)
        cases = [json.loads(line) for line in open(os.path.join(folder, "cases.jsonl"))]
    tally = {}
    for number, case in enumerate(cases):
        name = case["kind"] + " " + case.get("rule", case.get("mode", "timm"))
        theirs, ours = {"augment": augment, "resize": resize, "erase": erase}[case["kind"]](case, data[case["at"]:])
        same = theirs.shape == ours.shape and np.array_equal(theirs, ours)
        total = tally.setdefault(name, [0, 0, 0])
        total[0] += 1
        total[1] += same
        if theirs.shape == ours.shape:
            total[2] = max(total[2], int(np.abs(theirs.astype(int) - ours.astype(int)).max()))
        if not same and total[0] - total[1] <= 2:
            print(f"case {number} differs: {json.dumps(case)[:400]}")
    bad = 0
    for name, (n, same, most) in tally.items():
        verdict = "ok     " if n == same else "FAILED "
        print(f"{verdict} {name}: {same} of {n} equal, byte for byte; largest difference {most}")
        bad += n - same
    print(f"this Pillow resizes {turned} pictures in the other order, height first")
    print(f"Posterize to 0 bits, {black} times, is what Pillow 9.4 makes of it")
    sys.exit(1 if bad or not tally else 0)


main()
