"""Every student exported to ONNX: onnx.checker, and the logits and features of onnxruntime beside ours."""
import glob
import json
import os
import subprocess

import numpy as np
import onnx
import onnxruntime

import peers
from peers import BUILD, check, finish, run

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
    check(worst <= ALLOWED and spread > 1e-3,
          f"{os.path.basename(path)}: {len(model.graph.node)} nodes, largest difference {worst:.3g} of {ALLOWED:.0g}, "
          f"samples differ by {spread:.3g}")


# What follows a layer in the file, by kd_act_kind.
ACT = {1: "Relu", 3: "HardSwish", 4: "Mul", 5: "Sigmoid"}


def tensor_info(name):
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)


def cut(model, cases):
    """Every layer fed with what ours read, its answer an output: names of inputs and outputs in the order of layers."""
    nodes = model.graph.node
    maker = {o: n for n in nodes for o in n.output}
    xs, ys = [], []
    for n in list(nodes):
        dequantise = maker.get(n.input[0]) if n.op_type in ("Conv", "Gemm", "MatMul") else None
        if dequantise is None or dequantise.op_type != "DequantizeLinear" or dequantise.input[0] not in maker:
            continue
        quantise = maker[dequantise.input[0]]
        if not quantise.input[0].startswith("cut."):
            quantise.input[0] = f"cut.{len(xs)}"
            model.graph.input.append(tensor_info(quantise.input[0]))
        y = n.output[0]
        readers = [r for r in nodes if y in r.input]
        if n.op_type == "MatMul" and readers and readers[0].op_type == "Add" and readers[0].input[1].endswith("bias"):
            y = readers[0].output[0]
        act = ACT.get(int(cases[f"layer.{len(xs)}"][0]))
        if act:
            y = next(r.output[0] for r in nodes if y in r.input and r.op_type == act)
        xs.append(quantise.input[0])
        ys.append(y)
    for y in dict.fromkeys(ys):
        model.graph.output.append(tensor_info(y))
    return xs, ys


def layers_agree(model, cases):
    """Largest difference of a layer's answer to the same x, in steps of its sums; how many layers."""
    xs, ys = cut(model, cases)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {i.name: cases[f"layer.{i.name[4:]}.x"] if i.name.startswith("cut.") else cases[f"2.{i.name}"]
             for i in session.get_inputs()}
    worst = 0.0
    for i, got in enumerate(session.run(ys, feeds)):
        worst = max(worst, float(np.abs(got - cases[f"layer.{i}.y"]).max() / cases[f"layer.{i}"][1]))
    assert f"layer.{len(xs)}" not in cases and f"layer.{len(xs) - 1}" in cases
    return worst, len(xs)


def compare_int8(path):
    """QDQ beside the same description in integers.  A layer that reads the same numbers answers within one step.  From
    layer to layer a rounding the other way grows, as any noise of a step does, so whole models agree in their answers.
    """
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    cases = tensors(path[:-len(".int8.onnx")] + ".cases")
    got = session.run(["logits"], {i.name: cases[f"32.{i.name}"] for i in session.get_inputs()})[0]
    want, exact = cases["32.int8.logits"], cases["32.logits"]
    same = got.argmax(1) == want.argmax(1)
    worst, layers = layers_agree(model, cases)
    apart, loss = np.abs(got - want).max(), np.abs(exact - want).max()
    check(worst <= 1.0 and apart <= 2 * loss,
          f"{os.path.basename(path)}: {layers} layers within {worst:.2g} of a step; logits differ by {apart:.3g}, "
          f"from f32 by {loss:.3g}; same top-1 {same.mean():.3f}")
    return same


RECIPE = """kind: student
name: oracle
data: {root: data, split: {by: subject, train: [1, 2, 4, 5, 8, 9]}}
student: {name: last-e3-nano}
skeleton: {frames: 16, max_bodies: 1}
train: {epochs: 20, batch_size: 16}
"""


# Three pairs of the made actions share their motion and differ in the object in the hand (drink/eat, hammer/ring a
# bell, wave/wave a flag): between the two of a pair a skeleton student tosses a coin, so they count as one answer.
MOTION = np.array([0, 0, 2, 3, 3, 5, 5, 7, 8, 9, 10, 11])


def compare_trained():
    """A student that has learned something, on data it has not seen: onnxruntime gives the answers of our int8."""
    run("kd", "dataset", "sample", "--out", "data", "--skeletons-only", "-q")
    with open("recipe.yaml", "w") as f:
        f.write(RECIPE)
    run("distill", "train", "--config", "recipe.yaml", "--out", "run", "-q")
    subprocess.run([os.path.join(BUILD, "tests", "onnx_cases"), "run", "trained.onnx", "trained.case"], check=True)
    cases = tensors("trained.case")
    session = onnxruntime.InferenceSession("trained.onnx", providers=["CPUExecutionProvider"])
    got = session.run(["logits"], {i.name: cases[i.name] for i in session.get_inputs()})[0]
    ours, exact = cases["int8.logits"], cases["f32.logits"]
    answer, mine, first = (MOTION[v.argmax(1)] for v in (got, ours, exact))
    same, kept = (answer == mine).mean(), (mine == first).mean()
    check(same >= 0.99,
          f"a trained student, {len(got)} samples: the same top-1 as our int8 {same:.4f}, logits differ by "
          f"{np.abs(got - ours).max():.3g}; int8 beside f32: {kept:.4f}, {np.abs(ours - exact).max():.3g}")


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
    compare_trained()
    check(eight.mean() >= 0.97, f"int8: the same top-1 of {eight.mean():.4f} of {eight.size} samples")
finish()
