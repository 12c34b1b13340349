"""NumPy's aggregations of the bytes that Koinon aggregates.

Started by `koinon bench aggregate`, which shares its memory and asks over
standard input, one line at a time, so that the two can be timed in turns:

    python3 -c SCRIPT FD N P    FD: n x P fp32 updates, then P fp32 for answers
    weights W1 ... WN           answers "ready NUMPY BLAS" or "absent REASON"
    K FORM [NUMBER ...]         K calls of one of the forms below

Each request answers the seconds of one call, and leaves the last call's answer
in the shared memory. Each form is what somebody who knows NumPy would write.
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


def forms(np, updates, weights):
    """The forms by name. updates: [n, P] fp32; weights: [n] fp64."""
    n, p = updates.shape
    weights_fp32 = weights.astype(np.float32)
    shares = (weights / weights.sum()).astype(np.float32)
    product = np.empty(p, dtype=np.float32)
    term = np.empty(p, dtype=np.float32)

    def combine(coefficients):
        return np.dot(coefficients.astype(np.float32), updates, out=product)

    def in_place():
        product.fill(0)
        for share, update in zip(shares, updates):
            np.multiply(update, share, out=term)
            np.add(product, term, out=product)
        return product

    # The middle value, or the mean of the two.
    low, high = (n - 1) // 2, n // 2

    def middle(columns):
        if low == high:
            return columns[low]
        return (columns[low] + columns[high]) / np.float32(2)

    def trimmed(columns, trim):
        return columns[trim:n - trim].mean(axis=0)

    def kept(distances, f, keep):
        np.fill_diagonal(distances, np.inf)
        scores = np.sort(distances, axis=1)[:, :n - f - 2].sum(axis=1)
        best = np.argsort(scores, kind="stable")[:keep]
        if keep == 1:
            return updates[best[0]]
        coefficients = np.zeros(n)
        coefficients[best] = 1 / keep
        return combine(coefficients)

    def krum_gram(f, keep):
        gram = updates @ updates.T
        squares = np.diag(gram)
        return kept(squares[:, None] + squares[None, :] - 2 * gram, f, keep)

    def krum_pairwise(f, keep):
        distances = np.empty((n, n), dtype=np.float32)
        for i in range(n):
            for j in range(i + 1, n):
                np.subtract(updates[i], updates[j], out=term)
                distances[i, j] = distances[j, i] = term @ term
        return kept(distances, f, keep)

    smoothing = 1e-5

    def weiszfeld_gram(iterations):
        gram = (updates @ updates.T).astype(np.float64)
        a = np.full(n, 1 / n)
        for _ in range(iterations):
            along = gram @ a
            squares = np.diag(gram) - 2 * along + a @ along
            a = 1 / np.maximum(smoothing, np.sqrt(np.maximum(squares, 0)))
            a /= a.sum()
        return combine(a)

    def weiszfeld_direct(iterations):
        centre = updates.mean(axis=0)
        for _ in range(iterations):
            offsets = updates - centre
            squares = np.einsum("ij,ij->i", offsets, offsets)
            a = 1 / np.maximum(smoothing, np.sqrt(squares))
            centre = combine(a / a.sum())
        return centre

    return {
        "average": lambda: np.average(updates, axis=0, weights=weights),
        "average_fp32":
            lambda: np.average(updates, axis=0, weights=weights_fp32),
        "in_place": in_place,
        "matvec": lambda: combine(shares),
        "median": lambda: np.median(updates, axis=0),
        "median_sort": lambda: middle(np.sort(updates, axis=0)),
        "median_partition":
            lambda: middle(np.partition(updates, (low, high), axis=0)),
        "trimmed_sort": lambda trim: trimmed(np.sort(updates, axis=0), trim),
        "trimmed_partition":
            lambda trim: trimmed(
                np.partition(updates, (trim, n - trim - 1), axis=0), trim),
        "krum_gram": krum_gram,
        "krum_pairwise": krum_pairwise,
        "weiszfeld_gram": weiszfeld_gram,
        "weiszfeld_direct": weiszfeld_direct,
    }


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
    calls = forms(np, updates, weights)
    calls["matvec"]()  # loads the BLAS
    print("ready", np.__version__, blas_library(), flush=True)
    for line in sys.stdin:
        count, form, *numbers = line.split()
        call = calls[form]
        arguments = [int(number) for number in numbers]
        start = time.perf_counter()
        for _ in range(int(count)):
            result = call(*arguments)
        seconds = (time.perf_counter() - start) / int(count)
        answer[:] = result
        print(repr(seconds), flush=True)


main()
