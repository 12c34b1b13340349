"""Programs that do what Koinon does, run as their users run them.

Each rival names itself, says which steps it knows, and measures one of them.
Whatever is missing is an Absent, whose text says what; nothing is guessed.
"""

import os
import re
import statistics
import subprocess

import llmc

# torch_train.py's word for each model, and whether it has a memory format to
# choose.
TORCH_MODELS = {
    "cnn": ("cnn", True),
    "mlp": ("mlp", False),
    "resnet20": ("r20", True),
    "mobilenet_v3_small": ("mbv3", True),
    "mobilenet_v3_small_b8": ("mbv3b8", True),
    "gpt2-124m": ("gpt2", False),
}
TORCH_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}

# What OpenMP's and PyTorch's programs go by.
WIDEST = "avx512"


class Absent(Exception):
    """A rival, or what it needs, is not here; the text says what."""


def run(command, environment=None):
    """The program's standard output. Absent, with its last word, if it fails."""
    try:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise Absent(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise Absent(last_word(done.stderr) or f"exit code {done.returncode}")
    return done.stdout


def last_word(text):
    """The last line that says anything."""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return said[-1] if said else ""


def torch_step_ms(output):
    """What torch_train.py measured, of what it printed."""
    found = re.search(r"([\d.]+) ms/step", output)
    if not found:
        raise Absent("torch_train.py printed no figure")
    return float(found.group(1))


def blas_of(config, linked):
    """The BLAS in PyTorch's own words (torch.__config__.show()), or what it is
    linked with, where those words leave it open."""
    found = re.search(r"BLAS_INFO=(\w+)", config)
    if found and found.group(1) not in ("generic", "blas"):
        return found.group(1)
    return linked


class Torch:
    """A PyTorch: the one that a Python finds, over torch_train.py."""

    def __init__(self, python, directory):
        self.python = python
        self.script = os.path.join(directory, "torch_train.py")
        if not os.path.exists(self.script):
            raise Absent(f"PyTorch: no torch_train.py in {directory}")
        try:
            said = run([python, "-c", "import torch; print(torch.__version__); "
                                      "print(torch.__config__.show())"])
        except Absent as absent:
            raise Absent(f"PyTorch of {python} ({absent})") from absent
        version, _, config = said.partition("\n")
        self.name = "PyTorch " + version.partition("+")[0]
        link = "/etc/alternatives/libblas.so.3-x86_64-linux-gnu"
        self.blas = blas_of(config, os.path.realpath(link)
                            if os.path.exists(link) else "unknown")

    def describe(self):
        return f"{self.name}: {self.python}, BLAS {self.blas}"

    def knows(self, model, precision):
        return model in TORCH_MODELS and precision in TORCH_PRECISIONS

    def step_ms(self, model, precision, threads):
        name, has_formats = TORCH_MODELS[model]
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads),
                           ATEN_CPU_CAPABILITY=WIDEST)
        command = [self.python, self.script, name, str(threads),
                   TORCH_PRECISIONS[precision]]
        formats = ([], ["channels_last"]) if has_formats else ([],)
        return min(torch_step_ms(run(command + extra, environment))
                   for extra in formats)


class LlmC:
    """llm.c's train_gpt2 for processors: GPT-2 124M, fp32, 4 texts of 64."""

    name = "llm.c"
    # The first steps fault their memory in.
    WARM_UP, MEASURED = 2, 5

    def __init__(self, program, scratch, config=llmc.GPT2_124M):
        self.config = config
        self.program = os.path.abspath(program)
        if not os.access(self.program, os.X_OK):
            raise Absent(f"llm.c: no program at {program}; build its train_gpt2")
        self.scratch = scratch
        try:
            llmc.write_inputs(scratch, config)
        except ImportError as error:
            raise Absent(f"llm.c: {error}, which makes its model") from error

    def describe(self):
        return f"{self.name}: {self.program}"

    def knows(self, model, precision):
        return model == "gpt2-124m" and precision == "fp32"

    def step_ms(self, model, precision, threads):
        steps = self.WARM_UP + self.MEASURED
        # Its output is read while it comes: it would go on for long.
        process = subprocess.Popen(
            ["stdbuf", "-oL", self.program], cwd=self.scratch,
            env=dict(os.environ, OMP_NUM_THREADS=str(threads)),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace")
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if llmc.is_step(line, steps - 1):
                    break
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        try:
            times = llmc.step_times_ms(lines, steps, self.config)
        except ValueError as error:
            raise Absent(f"llm.c: {error}") from error
        return statistics.median(times[self.WARM_UP:])


def gloo_rates(output):
    """{bytes summed: GB/s} of what gloo_ar.py printed."""
    return {4 * int(count): 4 * int(count) / (1e3 * int(us))
            for count, us in re.findall(r"N=(\d+) floats: (\d+) us", output)
            if int(us) > 0}


class Gloo:
    """Sums of PyTorch's Gloo, between processes over the loopback."""

    def __init__(self, python, directory, torch):
        self.python = python
        self.name = f"Gloo of {torch}"
        self.script = os.path.join(directory, "gloo_ar.py")
        if not os.path.exists(self.script):
            raise Absent(f"Gloo: no gloo_ar.py in {directory}")

    def rates(self, ranks):
        found = gloo_rates(run([self.python, self.script, str(ranks)]))
        if not found:
            raise Absent("gloo_ar.py printed no figure")
        return found
