#!/bin/bash
# Loss curves of bfloat16 beside float32 on real digits: KOINON_MNIST, in the
# environment of bazel test, is a folder with MNIST's files (gzip, any number of
# digits). Says so and ends well where there is none, or where the processor has
# no bfloat16.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=programs_lib.sh
source "$TEST_SRCDIR/koinon/tests/e2e/programs_lib.sh"

skip() {
  echo "SKIPPED: $*" >&2
  echo "SKIPPED: bfloat16 on real digits is NOT tested" >&2
  exit 0
}
[[ -n "${KOINON_MNIST:-}" ]] || skip "no KOINON_MNIST"
[[ -r "$KOINON_MNIST/train-images-idx3-ubyte.gz" ]] ||
  skip "no train-images-idx3-ubyte.gz in $KOINON_MNIST"
grep -Eqw 'avx512_bf16|amx_bf16' /proc/cpuinfo ||
  skip "the processor has no bfloat16"

cat >mnist.txtpb <<END
name: "mnist"
source {
  idx {
    images: "$KOINON_MNIST/train-images-idx3-ubyte.gz"
    labels: "$KOINON_MNIST/train-labels-idx1-ubyte.gz"
  }
}
held_out_source {
  idx {
    images: "$KOINON_MNIST/t10k-images-idx3-ubyte.gz"
    labels: "$KOINON_MNIST/t10k-labels-idx1-ubyte.gz"
  }
}
END
for precision in FLOAT32 BFLOAT16; do
  cat >"$precision.txtpb" <<END
dataset: "mnist"
model {
  input_shape: [1, 28, 28]
  cnn { classes: 10 kernel: 3 channels1: 16 channels2: 32 dense: 64 }
}
training {
  steps: 200
  batch_size: 32
  precision: $precision
  optimizer { sgd { learning_rate: 0.05 momentum: 0.9 } }
}
END
done

# train PRECISION SEED: leaves PRECISION-SEED.csv and what it said.
train() {
  expect_exit 0 "$1, seed $2" "$koinon" train "$1.txtpb" --dataset @mnist.txtpb \
    --seed "$2" --threads 1 --report-every 20 --evaluate-every 200 \
    --curve "$1-$2.csv"
  mv out.txt "$1-$2.txt"
}
for seed in 1 2 3; do
  train FLOAT32 "$seed"
  train BFLOAT16 "$seed"
done

# Noise is what other seeds make of it in float32: other initial values, another
# order of the examples. bfloat16 must make less of it than that. What is right
# in the end, of n that are held out, differs between two models equally good by
# a standard error of sqrt(2 p (1 - p) / n) at most; by 4 of them one time in
# 16,000.
cat >curves.py <<'END'
import csv, math, re

SEEDS = (1, 2, 3)
def read(precision, seed):
    rows = list(csv.DictReader(open(f"{precision}-{seed}.csv")))
    losses = [float(row["loss"]) for row in rows]
    assert len(losses) == 10, losses
    return losses, float(rows[-1]["held_out_accuracy"])
def mean(values):
    values = list(values)
    return sum(values) / len(values)
def distance(a, b):
    return mean(abs(x - y) for x, y in zip(a, b))
single = {seed: read("FLOAT32", seed) for seed in SEEDS}
half = {seed: read("BFLOAT16", seed) for seed in SEEDS}
noise = mean(distance(single[a][0], single[b][0])
             for a, b in ((1, 2), (2, 3), (3, 1)))
difference = mean(distance(single[s][0], half[s][0]) for s in SEEDS)
right = [mean(run[s][1] for s in SEEDS) for run in (single, half)]
print(f"losses: bfloat16 {difference:.4f}, noise {noise:.4f}; "
      f"right: float32 {right[0]:.4f}, bfloat16 {right[1]:.4f}")
assert difference > 0, "the same curve: one of them was not trained as asked"
assert difference < noise
assert min(right) > 0.9, "neither a model that learned nor a comparison"
held_out = int(re.search(r"(\d+) held out", open("FLOAT32-1.txt").read())[1])
error = math.sqrt(2 * right[0] * (1 - right[0]) / held_out)
assert abs(right[0] - right[1]) < 4 * error, error
END
expect_exit 0 "the curves" /usr/bin/python3 curves.py
cat out.txt
finish
