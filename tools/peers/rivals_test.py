#!/usr/bin/python3
"""What the rivals print, and what llm.c reads."""

import os
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import llmc
import rivals

TINY = llmc.Config(positions=8, vocabulary=11, layers=2, heads=2, width=4,
                   padded_vocabulary=16)


class Outputs(unittest.TestCase):
    def test_torch_step_is_the_median_that_it_prints(self):
        self.assertEqual(12.34, rivals.torch_step_ms(
            "cnn B=32 params=421642 T=1 f32: 12.34 ms/step (min 11.00 max "
            "13.00), 2593 samples/s\n"))
        with self.assertRaisesRegex(rivals.Absent, "no figure"):
            rivals.torch_step_ms("Killed\n")

    def test_blas_is_what_pytorch_says_or_is_linked_with(self):
        self.assertEqual("mkl", rivals.blas_of(
            "Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release", "x"))
        self.assertEqual("/usr/lib/libblas.so.3", rivals.blas_of(
            "BLAS_INFO=generic, CXX=g++", "/usr/lib/libblas.so.3"))
        self.assertEqual("x", rivals.blas_of("", "x"))

    def test_gloo_rates_are_by_bytes(self):
        self.assertEqual(
            {1024: 0.016, 4000000: 1.6},
            rivals.gloo_rates(
                "gloo np=2 N=256 floats: 64 us, algbw 0.02 GB/s\n"
                "warning\n"
                "gloo np=2 N=1000000 floats: 2500 us, algbw 1.60 GB/s\n"))

    def test_what_is_not_there_is_named(self):
        with self.assertRaisesRegex(rivals.Absent, "no torch_train.py in /no"):
            rivals.Torch("/usr/bin/python3", "/no")
        with self.assertRaisesRegex(rivals.Absent, "/no/python: No such file"):
            rivals.run(["/no/python"])
        with self.assertRaisesRegex(rivals.Absent, "^the last line$"):
            rivals.run(["/bin/sh", "-c",
                        "echo first >&2; echo the last line >&2; exit 1"])
        with self.assertRaisesRegex(rivals.Absent, "exit code 3"):
            rivals.run(["/bin/sh", "-c", "exit 3"])


class LlmC(unittest.TestCase):
    def lines(self, losses):
        out = ["[GPT-2]\n", f"val loss {losses[0]}\n"]
        for step, loss in enumerate(losses):
            out.append(f"step {step}: train loss {loss} (took {100 + step}.500000"
                       " ms)\n")
        return out

    def test_steps_are_read_in_order(self):
        untrained = llmc.untrained_loss(llmc.GPT2_124M)
        self.assertAlmostEqual(10.98, untrained, delta=0.01)
        lines = self.lines([untrained + 0.1, 9, 8])
        self.assertEqual([100.5, 101.5], llmc.step_times_ms(
            lines, 2, llmc.GPT2_124M))
        self.assertTrue(llmc.is_step(lines[-1], 2))
        self.assertFalse(llmc.is_step(lines[-1], 1))
        self.assertFalse(llmc.is_step("val loss 2", 2))

    def test_too_few_steps_say_what_came_instead(self):
        with self.assertRaisesRegex(ValueError, "found 0.*Bad magic"):
            llmc.step_times_ms(["Bad magic model file\n"], 3, llmc.GPT2_124M)
        with self.assertRaisesRegex(ValueError, "was: nothing"):
            llmc.step_times_ms([], 3, llmc.GPT2_124M)

    def test_another_loss_is_no_figure(self):
        for loss in (10.5, 11.5, "nan"):
            with self.assertRaisesRegex(ValueError, "first loss of 10.98"):
                llmc.step_times_ms(self.lines([loss]), 1, llmc.GPT2_124M)

    def with_program(self, text):
        """llm.c's place taken by a shell script."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        program = os.path.join(folder.name, "train_gpt2")
        with open(program, "w", encoding="utf-8") as out:
            out.write("#!/bin/sh\n" + text)
        os.chmod(program, 0o755)
        return rivals.LlmC(program, folder.name, TINY)

    def test_a_program_that_fails_is_absent_with_its_word(self):
        rival = self.with_program("echo Bad magic model file\nexit 1\n")
        with self.assertRaisesRegex(rivals.Absent, "llm.c: .*Bad magic"):
            rival.step_ms("gpt2-124m", "fp32", 1)

    def test_a_program_finds_its_files_and_is_ended_after_its_steps(self):
        # Steps of 10, 11, 12 ... ms, without an end.
        rival = self.with_program(
            f"[ -s {llmc.MODEL_FILE} ] && [ -s {llmc.TOKEN_FILES[0]} ] &&\n"
            f"  [ -s {llmc.TOKEN_FILES[1]} ] || exit 1\n"
            "i=0\nwhile :; do\n"
            '  echo "step $i: train loss 2.4 (took 1$i ms)"\n'
            "  i=$((i + 1))\ndone\n")
        self.assertEqual(14, rival.step_ms("gpt2-124m", "fp32", 1))

    def test_model_has_its_header_and_its_values_in_order(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.bin")
            llmc.write_model(path, TINY)
            with open(path, "rb") as file:
                data = file.read()
        self.assertEqual((20240326, 3, 8, 11, 2, 2, 4, 16, 0),
                         struct.unpack("<9i", data[:36]))
        values = struct.unpack(f"<{(len(data) - 1024) // 4}f", data[1024:])
        # As GPT-2's: 12 c^2 + 13 c for each layer, both embeddings, a norm.
        self.assertEqual(2 * (12 * 16 + 13 * 4) + (16 + 8) * 4 + 2 * 4,
                         len(values))
        embeddings = (16 + 8) * 4
        self.assertTrue(0 < max(map(abs, values[:embeddings])) < 0.2)
        self.assertEqual((1,) * 8 + (0,) * 8,
                         values[embeddings:embeddings + 16])
        self.assertEqual((1,) * 4 + (0,) * 4, values[-8:])

    def test_model_of_gpt2_has_as_many_values_as_llmc_says(self):
        self.assertEqual(124475904, sum(
            count for count, _ in llmc.tensors(llmc.GPT2_124M)))

    def test_tokens_are_as_many_as_the_header_says(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "tokens.bin")
            llmc.write_tokens(path, TINY, 1)
            with open(path, "rb") as file:
                data = file.read()
        magic, version, count = struct.unpack("<3i", data[:12])
        self.assertEqual((20240520, 1), (magic, version))
        self.assertEqual(1024 + 2 * count, len(data))
        tokens = struct.unpack(f"<{count}H", data[1024:])
        self.assertEqual(set(range(11)), set(tokens))


if __name__ == "__main__":
    unittest.main()
