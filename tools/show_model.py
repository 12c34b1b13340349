"""Prints what is in a safetensors file: one line per tensor.

  show_model.py FILE

Needs NumPy alone, and shows how little it takes to read one.
"""

import json
import sys

import numpy


def load(path):
    with open(path, "rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_size))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, spec in header.items():
        begin, end = spec["data_offsets"]
        assert spec["dtype"] == "F32", name
        tensors[name] = numpy.frombuffer(
            data[begin:end], "<f4").reshape(spec["shape"])
    return tensors, metadata


def main():
    tensors, metadata = load(sys.argv[1])
    for key, value in sorted(metadata.items()):
        print(f"{key}: {value}")
    for name, tensor in tensors.items():
        print(f"{name:16} {str(tensor.shape):18} mean {tensor.mean():+.4f} "
              f"std {tensor.std():.4f}")
    total = sum(tensor.size for tensor in tensors.values())
    print(f"{total} parameters in {len(tensors)} tensors")


if __name__ == "__main__":
    main()
