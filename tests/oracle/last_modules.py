"""The modules of the LAST repository, each family as of the commit that had it last.

    last_modules.py REPOSITORY FOLDER    writes FOLDER/NAME.txt: dtype, shape and key of every tensor of a state_dict

REPOSITORY is a git directory of Vayuputra2401/LAST with its history.
"""
import importlib
import os
import subprocess
import sys
import tempfile

COMMITS = {"last-v1": "0b0ce4a", "last-v2": "8a1d159", "last-e1": "8a1d159", "last-e2": "8a1d159",
           "last-e3": "029246b", "sfz": "ab0b7c8"}
SIZES = {"last-v1": ("small", "base", "large"), "last-v2": ("small", "base"),
         "last-e1": ("nano", "small", "base", "large"), "last-e2": ("nano", "small", "base", "large"),
         "last-e3": ("nano", "small", "base", "large"), "sfz": ("nano", "small", "medium", "large", "x")}
NAMES = [f"{family}-{size}" for family, sizes in SIZES.items() for size in sizes]


class Modules:
    """student(name) builds the authors' module, with its own initial values."""

    def __init__(self, repository):
        self.folder = tempfile.TemporaryDirectory()
        sys.path.insert(0, self.folder.name)
        for commit in sorted(set(COMMITS.values())):
            to = os.path.join(self.folder.name, commit)
            os.makedirs(to)
            archive = subprocess.run(["git", "-C", repository, "archive", commit, "src/models"], check=True,
                                     capture_output=True).stdout
            subprocess.run(["tar", "-x", "-C", to], input=archive, check=True)
            package = os.path.join(self.folder.name, "last_" + commit)
            os.rename(os.path.join(to, "src", "models"), package)

    def student(self, name, classes=60):
        family, size = name.rsplit("-", 1)
        module = lambda file: importlib.import_module(f"last_{COMMITS[family]}.{file}")
        if family == "last-v1":
            return getattr(module("last"), "create_last_" + size)(num_classes=classes)
        if family == "last-v2":
            return module("last_v2").LAST_v2(num_classes=classes, variant=size)
        if family == "last-e1":
            return module("last_e").LAST_E(num_classes=classes, variant=size)
        if family in ("last-e2", "last-e3"):
            version = family[-1]
            return getattr(module("last_e_v" + version), f"create_last_e_v{version}_{size}")(num_classes=classes)
        zero = module("shiftfuse_zero")
        return {"nano": lambda: zero.build_shiftfuse_zero("nano_tiny_efficient", num_classes=classes),
                "small": lambda: zero.build_shiftfuse_zero_late("small_late_efficient_bb", num_classes=classes),
                "medium": lambda: zero.build_shiftfuse_zero_late("medium_late_efficient_bb", num_classes=classes),
                "large": lambda: zero.build_shiftfuse_zero_b4(num_classes=classes),
                "x": lambda: zero.build_shiftfuse_zero_x(num_classes=classes)}[size]()


def lines(state):
    """One tensor a line, in the order of keys: "float32 [64,3,1,1] stem.0.weight"."""
    return [f"{str(t.dtype).removeprefix('torch.')} [{','.join(map(str, t.shape))}] {key}"
            for key, t in sorted(state.items())]


if __name__ == "__main__":
    modules = Modules(sys.argv[1])
    for student in NAMES:
        with open(os.path.join(sys.argv[2], student + ".txt"), "w") as out:
            out.write("\n".join(lines(modules.student(student).state_dict())) + "\n")
