#!/usr/bin/python3
"""An external trainer whose memory does not grow with the model.

Writes 0.5 into the first element of every block of the model's data, in place.
docs/external-trainer.md is the contract.
"""

import json
import os
import struct

BLOCK = 1 << 20

with open("model.safetensors", "r+b") as model:
    (header,) = struct.unpack("<Q", model.read(8))
    for offset in range(8 + header, os.path.getsize(model.name), BLOCK):
        model.seek(offset)
        model.write(struct.pack("<f", 0.5))
with open("metrics.json", "w", encoding="utf-8") as metrics:
    json.dump({"examples": 10, "loss": 1.0}, metrics)
