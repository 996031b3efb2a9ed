"""Every student exported to ONNX: onnx.checker, and the logits and features of onnxruntime beside ours."""
import glob
import json
import os
import subprocess

import numpy as np
import onnx
import onnxruntime

import peers
from peers import BUILD, check, finish

ALLOWED = 1e-5  # of the largest number of an output


def tensors(path):
    """The f32 tensors of a safetensors file."""
    with open(path, "rb") as f:
        data = f.read()
    start = 8 + int.from_bytes(data[:8], "little")
    out = {}
    for name, t in json.loads(data[8:start]).items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            out[name] = np.frombuffer(data[start + a:start + b], np.float32).reshape(t["shape"])
    return out


def compare(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [o.version for o in model.opset_import] == [17]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    cases = tensors(path[:-5] + ".cases")
    worst = 0.0
    for batch in (1, 3):
        inputs = {i.name: cases[f"{batch}.{i.name}"] for i in session.get_inputs()}
        for name, got in zip(("logits", "features"), session.run(["logits", "features"], inputs)):
            want = cases[f"{batch}.{name}"]
            assert got.shape == want.shape and np.isfinite(want).all()
            worst = max(worst, float(np.abs(got - want).max() / max(1.0, np.abs(want).max())))
    spread = np.abs(cases["3.logits"] - cases["3.logits"].mean(0)).max()
    check(worst <= ALLOWED and spread > 1e-2,
          f"{os.path.basename(path)}: {len(model.graph.node)} nodes, largest difference {worst:.3g} of {ALLOWED:.0g}, "
          f"samples differ by {spread:.3g}")


def compare_int8(path):
    """QDQ beside the same description in integers: logits within one step of the classifier's input, and the same
    answer of 99 of 100 samples."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    cases = tensors(path[:-len(".int8.onnx")] + ".cases")
    got = session.run(["logits"], {i.name: cases[f"32.{i.name}"] for i in session.get_inputs()})[0]
    want, exact, step = cases["32.int8.logits"], cases["32.logits"], float(cases["32.step"][0])
    layers = sum(n.op_type == "QuantizeLinear" for n in model.graph.node)
    same = got.argmax(1) == want.argmax(1)
    worst, loss = np.abs(got - want).max(), np.abs(exact - want).max()
    check(worst <= step, f"{os.path.basename(path)}: {layers} ranges, differs from ours by {worst:.3g} of a step of "
          f"{step:.3g}, same top-1 {same.mean():.3f}; f32 differs by {loss:.3g}")
    return same


print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
with peers.workplace():
    subprocess.run([os.path.join(BUILD, "tests", "onnx_cases"), "."], check=True)
    eight = []
    for file in sorted(glob.glob("*.onnx")):
        if file.endswith(".int8.onnx"):
            eight.append(compare_int8(file))
        else:
            compare(file)
    eight = np.concatenate(eight)
    check(eight.mean() >= 0.99, f"int8: the same top-1 of {eight.mean():.4f} of {eight.size} samples")
finish()
