"""Fuzz targets: one per decoder of bytes that others made (libFuzzer, Clang).

In the decoder's package:

    koinon_fuzz_target(name = "x_fuzz", srcs = ["x_fuzz.cc"], deps = [":x"])

x_fuzz.cc defines LLVMFuzzerTestOneInput. To search for new inputs:

    bazel build --config=fuzz //pkg:x_fuzz
    bazel-bin/pkg/x_fuzz -max_total_time=60 NEW_CORPUS tests/fuzz/corpus/x

In tests/fuzz/corpus/x, so that every build runs the known inputs:

    koinon_corpus_test(name = "x_corpus_test", target = "//pkg:x_fuzz")
"""

def koinon_fuzz_target(name, srcs, deps):
    """The fuzzer itself (built by name only) and its function for corpus tests.

    Args:
      name: of the fuzzer.
      srcs: the file that defines LLVMFuzzerTestOneInput.
      deps: what it needs.
    """
    native.cc_library(
        name = name + "_function",
        testonly = True,
        srcs = srcs,
        deps = deps,
        # Nobody names the function: the fuzzer's main does.
        alwayslink = True,
        visibility = ["//tests/fuzz:__subpackages__"],
    )
    native.cc_binary(
        name = name,
        testonly = True,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = [":" + name + "_function"],
    )

def koinon_corpus_test(name, target):
    """A test that runs each file of this package through a fuzz target.

    Args:
      name: of the test.
      target: the koinon_fuzz_target.
    """
    files = native.glob(["*"], exclude = ["BUILD.bazel"])
    native.cc_test(
        name = name,
        size = "small",
        args = ["$(location %s)" % file for file in files],
        data = files,
        deps = [
            target + "_function",
            "//third_party/fuzzing:corpus_main",
        ],
    )
