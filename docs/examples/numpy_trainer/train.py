#!/usr/bin/python3
"""An external trainer for Koinon: logistic regression in NumPy.

    train.py NAME=FILE...

FILE is a table without a header (plain or gzip): features, then a class from 0.
The last fifth of its rows is held out. A job may set the parameters
"learning_rate" and "scale" (of the features). docs/external-trainer.md is the
contract.
"""

import json
import struct
import sys

import numpy as np


def read_model(path):
    """A safetensors file: {name: array}."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(data[begin:end], dtype="<f4")
        tensors[name] = flat.reshape(entry["shape"]).copy()
    return tensors


def write_model(path, tensors):
    header, offset = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape),
                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(array.astype("<f4").tobytes())


def measure(weight, bias, x, y):
    """Class probabilities, mean loss and accuracy."""
    logits = x @ weight.T + bias
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(len(y)), y] + 1e-12).mean()
    return p, float(loss), float((p.argmax(axis=1) == y).mean())


def train(weight, bias, x, y, task):
    """Plain SGD, in place; returns the number of steps."""
    rate = float(task["parameters"].get("learning_rate", 0.1))
    batch = int(task["training"]["batch_size"]) or 32
    random = np.random.default_rng(int(task["seed"]))
    steps = 0
    for _ in range(round(task["training"]["epochs"]) or 1):
        order = random.permutation(len(y))
        for start in range(0, len(y), batch):
            rows = order[start:start + batch]
            p, _, _ = measure(weight, bias, x[rows], y[rows])
            p[np.arange(len(rows)), y[rows]] -= 1
            weight -= rate * (p.T @ x[rows]) / len(rows)
            bias -= rate * p.mean(axis=0)
            steps += 1
    return steps


def main():
    with open("task.json") as file:
        task = json.load(file)
    files = dict(argument.split("=", 1) for argument in sys.argv[1:])
    table = np.loadtxt(files[task["dataset"]], delimiter=",", dtype=np.float32)
    scale = float(task["parameters"].get("scale", 1))
    x, y = table[:, :-1] * scale, table[:, -1].astype(int)
    cut = len(y) - len(y) // 5

    tensors = read_model("model.safetensors")
    (weight,) = [t for t in tensors.values() if t.ndim == 2]
    (bias,) = [t for t in tensors.values() if t.ndim == 1]
    steps = 0
    if task["kind"] == "train":
        x, y = x[:cut], y[:cut]
        steps = train(weight, bias, x, y, task)
        write_model("model.safetensors", tensors)
    else:
        x, y = x[cut:], y[cut:]
    _, loss, accuracy = measure(weight, bias, x, y)
    print(f"{task['kind']}: {len(y)} examples, loss {loss:.4f}")
    with open("metrics.json", "w") as file:
        json.dump({"examples": len(y), "loss": loss, "accuracy": accuracy,
                   "steps": steps}, file)


if __name__ == "__main__":
    main()
