"""What llm.c's train_gpt2 reads and prints.

It takes the files that it trains on by fixed names from the folder that it is
started in. These are such files without a download: a GPT-2 with initial values
drawn as GPT-2's are, and tokens drawn evenly. How long a step takes does not
depend on them.

Little-endian throughout. The model: 256 int32 (magic, version, positions,
vocabulary, layers, heads, width, padded vocabulary, zeros), then fp32 values,
tensor by tensor, those of all layers together. Tokens: 256 int32 (magic,
version, count, zeros), then uint16.
"""

import collections
import math
import os
import re
import struct

Config = collections.namedtuple(
    "Config", "positions vocabulary layers heads width padded_vocabulary")
GPT2_124M = Config(1024, 50257, 12, 12, 768, 50304)

HEADER_INTS = 256
MODEL_MAGIC, MODEL_VERSION = 20240326, 3
TOKENS_MAGIC, TOKENS_VERSION = 20240520, 1
# Of one batch, and so many batches that no pass over them ends in a run.
BATCH_TOKENS, BATCHES = 4 * 64, 64
STDDEV = 0.02

MODEL_FILE = "gpt2_124M.bin"
TOKEN_FILES = ("dev/data/tinyshakespeare/tiny_shakespeare_train.bin",
               "dev/data/tinyshakespeare/tiny_shakespeare_val.bin")


def tensors(config):
    """(values, standard deviation or None for ones) of each, in order."""
    c, layers = config.width, config.layers
    norms = [(layers * c, None), (layers * c, 0)]
    dense = lambda outputs, inputs: [(layers * outputs * inputs, STDDEV),
                                     (layers * outputs, 0)]
    return ([(config.padded_vocabulary * c, STDDEV),
             (config.positions * c, STDDEV)] +
            norms + dense(3 * c, c) + dense(c, c) +
            norms + dense(4 * c, c) + dense(c, 4 * c) + [(c, None), (c, 0)])


def header(*values):
    return struct.pack(f"<{HEADER_INTS}i", *values,
                       *[0] * (HEADER_INTS - len(values)))


def write_model(path, config, seed=1):
    """Raises ImportError where there is no NumPy to draw the values with."""
    import numpy as np

    draw = np.random.default_rng(seed)
    with open(path, "wb") as out:
        out.write(header(MODEL_MAGIC, MODEL_VERSION, *config))
        for count, stddev in tensors(config):
            if stddev is None:
                values = np.ones(count, dtype="<f4")
            elif stddev == 0:
                values = np.zeros(count, dtype="<f4")
            else:
                values = draw.standard_normal(count, dtype=np.float32)
                values *= np.float32(stddev)
            out.write(values.astype("<f4", copy=False).tobytes())


def write_tokens(path, config, seed):
    import random

    count = BATCHES * BATCH_TOKENS + 1  # each has a next one
    draw = random.Random(seed)
    with open(path, "wb") as out:
        out.write(header(TOKENS_MAGIC, TOKENS_VERSION, count))
        out.write(struct.pack(f"<{count}H", *(
            draw.randrange(config.vocabulary) for _ in range(count))))


def write_inputs(folder, config):
    """All that train_gpt2 wants in the folder that it starts in."""
    write_model(os.path.join(folder, MODEL_FILE), config)
    for seed, name in enumerate(TOKEN_FILES):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_tokens(path, config, seed)


STEP = re.compile(r"step (\d+): train loss (\S+) \(took ([\d.]+) ms\)")


def is_step(line, number):
    found = STEP.search(line)
    return found is not None and int(found.group(1)) == number


def untrained_loss(config):
    """Of a model with such values: the last norm's outputs have variance 1, so
    that each logit has variance width * STDDEV^2, and the mean of the logarithm
    of a sum of so many exponentials is that of its mean, up to rounding."""
    return math.log(config.vocabulary) + config.width * STDDEV ** 2 / 2


def step_times_ms(lines, steps, config):
    """Of the first so many steps. ValueError, saying what was printed, if there
    are fewer, or if the first loss is not that of an untrained model: then it
    computed something else, and its times are of no use."""
    found = [match for match in map(STEP.search, lines) if match]
    if len(found) < steps:
        said = lines[-1].strip() if lines else "nothing"
        raise ValueError(f"expected {steps} steps, found {len(found)}; "
                         f"the last word was: {said}")
    loss, expected = float(found[0].group(2)), untrained_loss(config)
    # 256 tokens whose logits differ by 0.55: a standard error of 0.035.
    if not abs(loss - expected) < 0.2:
        raise ValueError(f"expected a first loss of {expected:.2f}, found "
                         f"{loss}")
    return [float(match.group(3)) for match in found[:steps]]
