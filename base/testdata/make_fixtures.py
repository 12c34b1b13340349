"""Makes the python_* files in this folder with the format's own Python package.

Then checks that the package reads the one that Koinon wrote.

Run by hand when a fixture has to change (pip install safetensors numpy):

    python3 base/testdata/make_fixtures.py base/testdata

The tests only read the files, and so need neither package.
"""

import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

folder = sys.argv[1]

# Values that are exact in every type, so that the tests compare for equality.
save_file(
    {
        "layer1.weight": np.arange(12, dtype=np.float32).reshape(3, 4) / 4,
        "layer1.bias": np.array([-1.5, 0.0, 2.25], dtype=np.float32),
        "scalar": np.array(0.5, dtype=np.float32),
        "größe/層": np.array([[1.0], [-2.0]], dtype=np.float32),
    },
    folder + "/python_f32.safetensors",
    metadata={"format": "pt", "note": 'quotes " and \\ and ü'},
)

save_file(
    {
        "f64": np.array([1.0, -2.0], dtype=np.float64),
        "f16": np.array([0.5, 1.5], dtype=np.float16),
        "i64": np.array([-(2**62)], dtype=np.int64),
        "i32": np.array([[1, 2], [3, 4]], dtype=np.int32),
        "i16": np.array([-7], dtype=np.int16),
        "i8": np.array([-8, 8, 9], dtype=np.int8),
        "u8": np.array([255], dtype=np.uint8),
        "bool": np.array([True, False, True], dtype=np.bool_),
        "empty": np.zeros((0, 5), dtype=np.float32),
        "also_empty": np.zeros((3, 0), dtype=np.float32),
    },
    folder + "/python_mixed.safetensors",
)

save_file({}, folder + "/python_no_tensors.safetensors")
save_file(
    {"u64": np.array([1], dtype=np.uint64)},
    folder + "/python_unknown_dtype.safetensors",
)

# The other direction: the package reads what Koinon wrote (see
# base/safetensors_interop_test.cc).
with safe_open(folder + "/koinon_f32.safetensors", framework="np") as file:
    assert file.metadata() == {"format": "pt", "koinon.round": "3"}
    tensors = {name: file.get_tensor(name) for name in file.keys()}
assert set(tensors) == {"z.weight", "a.bias", "größe/層", "none"}
assert all(tensor.dtype == np.float32 for tensor in tensors.values())
assert tensors["z.weight"].tolist() == [[0, 0.25, 0.5], [0.75, 1, 1.25]]
assert tensors["a.bias"].tolist() == [-1, -2, -3]
assert tensors["größe/層"].shape == () and tensors["größe/層"] == 0.125
assert tensors["none"].shape == (0, 4)
print("the package reads koinon_f32.safetensors")
