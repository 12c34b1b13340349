#!/bin/bash
# A reader that shares no line with ours, written from the format's description
# alone, finds in Koinon's file what Koinon put there.
set -euo pipefail
exec /usr/bin/python3 - "$1" <<'PYTHON'
import json, struct, sys

data = open(sys.argv[1], "rb").read()
(length,) = struct.unpack("<Q", data[:8])
header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
assert (8 + length) % 64 == 0, length
assert header.pop("__metadata__") == {"format": "pt", "koinon.round": "3"}

def floats(name):
    begin, end = header[name]["data_offsets"]
    assert header[name]["dtype"] == "F32"
    return list(struct.unpack("<%df" % ((end - begin) // 4), body[begin:end]))

assert len(header) == 4, header
assert header["z.weight"]["shape"] == [2, 3]
assert floats("z.weight") == [0, 0.25, 0.5, 0.75, 1, 1.25]
assert floats("a.bias") == [-1, -2, -3]
assert header["größe/層"]["shape"] == [] and floats("größe/層") == [0.125]
assert header["none"]["shape"] == [0, 4] and floats("none") == []
assert len(body) == 40, len(body)
PYTHON
