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
MILLIONTHS = 20  # of the numbers between layers in eight bits
LEARNED = 0.2  # top-1 of a student that tells nine actions apart, if not well: one class for all is 0.11


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
    """Every layer fed with what ours read, its answer and what it would have read outputs.  In the order of layers:
    names of answers; names of what they read, with scale and zero point."""
    nodes = model.graph.node
    maker = {o: n for n in nodes for o in n.output}
    number = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    fed, ys, reads = {}, [], []
    for n in list(nodes):
        dequantise = maker.get(n.input[0]) if n.op_type in ("Conv", "Gemm", "MatMul") else None
        if dequantise is None or dequantise.op_type != "DequantizeLinear" or dequantise.input[0] not in maker:
            continue
        quantise = maker[dequantise.input[0]]
        if quantise.output[0] not in fed:
            fed[quantise.output[0]] = quantise.input[0]
            quantise.input[0] = f"cut.{len(ys)}"
            model.graph.input.append(tensor_info(quantise.input[0]))
        y = n.output[0]
        readers = [r for r in nodes if y in r.input]
        bias = readers[0].input[1] if n.op_type == "MatMul" and readers and readers[0].op_type == "Add" else ""
        if "bias" in bias or (bias in maker and "bias" in maker[bias].input[0]):
            y = readers[0].output[0]
        act = ACT.get(int(cases[f"layer.{len(ys)}"][0]))
        if act:
            y = next(r.output[0] for r in nodes if y in r.input and r.op_type == act)
        ys.append(y)
        reads.append((fed[quantise.output[0]], number[quantise.input[1]], number[quantise.input[2]]))
    for y in dict.fromkeys(ys + [r[0] for r in reads if r[0] in maker]):
        model.graph.output.append(tensor_info(y))
    return ys, [r for r in reads if r[0] in maker]


def eight(x, scale, zero):
    return np.clip(np.rint(x / scale) + np.float32(zero), 0, 255)


def layers_agree(model, cases):
    """Where every layer is fed with what ours read: the largest difference of an answer, in steps of its sums; how many
    layers; how many of a million numbers come out of the f32 between two layers another step for the next one."""
    ys, reads = cut(model, cases)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {i.name: cases[f"layer.{i.name[4:]}.x"] if i.name.startswith("cut.") else cases[f"2.{i.name}"]
             for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    got = dict(zip(names, session.run(names, feeds)))
    worst, other, numbers = 0.0, 0, 0
    for i, y in enumerate(ys):
        worst = max(worst, float(np.abs(got[y] - cases[f"layer.{i}.y"]).max() / cases[f"layer.{i}"][1]))
    assert f"layer.{len(ys)}" not in cases and f"layer.{len(ys) - 1}" in cases
    for i, (x, scale, zero) in enumerate(reads, len(ys) - len(reads)):
        apart = eight(got[x], scale, zero) != eight(cases[f"layer.{i}.x"], scale, zero)
        other, numbers = other + int(apart.sum()), numbers + apart.size
    return worst, len(ys), 1e6 * other / numbers


def compare_int8(path):
    """QDQ beside the same description in integers.  A layer that reads the same numbers answers within one step, and
    what it reads is another step for a few of a million numbers: f32 between layers is rounded in another order.  From
    layer to layer such a number grows, as any noise of a step does, so whole models agree in their answers.
    """
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    cases = tensors(path[:-len(".int8.onnx")] + ".cases")
    got = session.run(["logits"], {i.name: cases[f"32.{i.name}"] for i in session.get_inputs()})[0]
    want, exact = cases["32.int8.logits"], cases["32.logits"]
    same = got.argmax(1) == want.argmax(1)
    worst, layers, steps = layers_agree(model, cases)
    apart, loss = np.abs(got - want), np.abs(exact - want).max()
    equal = (apart.max(1) <= ALLOWED * np.abs(want).max()).mean()
    check(worst <= 1.0 and apart.max() <= 2 * loss and steps <= MILLIONTHS,
          f"{os.path.basename(path)}: {layers} layers within {worst:.2g} of a step, {steps:.1f} of a million numbers "
          f"between them another step; logits differ by {apart.max():.3g}, from f32 by {loss:.3g}, {equal:.2f} of the "
          f"samples by nothing; same top-1 {same.mean():.3f}")
    return same


RECIPE = """kind: student
name: oracle
data: {{root: data, split: {{by: subject, train: [1, 2, 4]}}}}
student: {{name: {name}}}
skeleton: {{frames: 16, max_bodies: 1}}
optim: {{warmup_epochs: 1}}
train: {{epochs: {epochs}, batch_size: 6, eval_every: {epochs}}}
"""


def make_data():
    """Made actions.  Three pairs share their motion and differ in the object in the hand (drink/eat, hammer/ring a
    bell, wave/wave a flag): between the two of a pair a skeleton student tosses a coin, so the second is left out."""
    run("kd", "dataset", "sample", "--out", "data", "--skeletons-only", "--cameras", "2", "-q")
    for twin in ("A002", "A005", "A007"):
        for file in glob.glob(f"data/nturgb+d_skeletons/*{twin}.skeleton"):
            os.remove(file)


def compare_trained(name, epochs):
    """A student that has learned something, by commands, on samples that it has not seen: `distill eval --int8` beside
    onnxruntime with the file of `distill export --int8`."""
    with open("recipe.yaml", "w") as f:
        f.write(RECIPE.format(name=name, epochs=epochs))
    run("distill", "train", "--config", "recipe.yaml", "--out", "run", "--force", "-q")
    run("distill", "export", "--weights", "run", "--int8", "--out", "run.onnx", "--force", "-q")
    run("distill", "eval", "--weights", "run", "--int8", "--out", "run.json", "--force", "-q")
    subprocess.run([os.path.join(BUILD, "tests", "onnx_cases"), "run", "run.cases"], check=True)
    with open("run.json") as f:
        report = json.load(f)
    cases = tensors("run.cases")
    session = onnxruntime.InferenceSession("run.onnx", providers=["CPUExecutionProvider"])
    got = session.run(["logits"], {i.name: cases[i.name] for i in session.get_inputs()})[0]
    ours, labels = np.array(report["predictions"]["logits"]), np.array(report["predictions"]["labels"])
    same, right = got.argmax(1) == ours.argmax(1), (ours.argmax(1) == labels).mean()
    check(len(got) == len(ours) and right >= LEARNED and same.mean() >= 0.99,
          f"{name}, trained: {len(got)} samples, top-1 {right:.3f} in int8, the same top-1 in onnxruntime "
          f"{same.mean():.4f}, logits differ by {np.abs(got - ours).max():.3g}")
    return same


print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
with peers.workplace():
    subprocess.run([os.path.join(BUILD, "tests", "onnx_cases"), "."], check=True)
    drawn, names = [], []
    for file in sorted(glob.glob("*.onnx")):
        if file.endswith(".int8.onnx"):
            drawn.append(compare_int8(file))
            names.append(file[:-len("-16-1.int8.onnx")])
        else:
            compare(file)
    drawn = np.concatenate(drawn)
    check(drawn.mean() >= 0.98, f"int8, weights as drawn: the same top-1 of {drawn.mean():.4f} of {drawn.size} samples")
    make_data()
    taught = np.concatenate([compare_trained(name, 6) for name in names])
    check(taught.mean() >= 0.99, f"int8, trained: the same top-1 of {taught.mean():.4f} of {taught.size} samples")
finish()
