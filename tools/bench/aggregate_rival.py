"""NumPy's weighted means over the bytes that Koinon averages.

Started by `koinon bench aggregate`, which shares its memory and asks over
standard input, one line at a time, so that the two can be timed in turns:

    python3 -c SCRIPT FD N P    FD: n x P fp32 updates, then P fp32 for answers
    weights W1 ... WN           answers "ready NUMPY BLAS" or "absent REASON"
    average K                   K times np.average, weights as they are (fp64)
    average_fp32 K              K times np.average, weights made fp32 before
    matvec K                    K times w @ S in fp32 (BLAS)

Each of the last three answers the seconds of one call, and leaves the last
call's answer in the shared memory.
"""

import mmap
import os
import sys
import time


def blas_library():
    """The file of the BLAS that this process has loaded, and its flavour."""
    paths = set()
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split()[-1]
            if "blas" in os.path.basename(path).lower() and ".so" in path:
                paths.add(os.path.realpath(path))
    # A reference library loaded beside OpenBLAS only forwards to it.
    best = sorted(paths, key=lambda path: "libopenblas" not in path)
    return best[0] if best else "unknown"


def main():
    try:
        import numpy as np
    except ImportError as error:
        print("absent", error, flush=True)
        return
    fd, n, p = (int(argument) for argument in sys.argv[1:4])
    memory = mmap.mmap(fd, (n + 1) * p * 4)
    values = np.frombuffer(memory, dtype=np.float32)
    updates = values[: n * p].reshape(n, p)
    answer = values[n * p :]
    weights = np.array(sys.stdin.readline().split()[1:], dtype=np.float64)
    weights_fp32 = weights.astype(np.float32)
    shares = (weights / weights.sum()).astype(np.float32)
    product = np.empty(p, dtype=np.float32)
    np.dot(shares, updates, out=product)  # loads the BLAS
    print("ready", np.__version__, blas_library(), flush=True)
    for line in sys.stdin:
        form, count = line.split()
        start = time.perf_counter()
        for _ in range(int(count)):
            if form == "average":
                mean = np.average(updates, axis=0, weights=weights)
            elif form == "average_fp32":
                mean = np.average(updates, axis=0, weights=weights_fp32)
            else:
                mean = np.dot(shares, updates, out=product)
        seconds = (time.perf_counter() - start) / int(count)
        answer[:] = mean
        print(repr(seconds), flush=True)


main()
