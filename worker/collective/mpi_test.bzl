"""Tests whose ranks are processes that mpirun starts."""

def koinon_mpi_test(name, program, ranks, args = [], **kwargs):
    """One run of `program`, a test-only cc_binary, by `ranks` ranks.

    Args:
      name: the test's.
      program: its label.
      ranks: how many; all on this machine.
      args: of the program.
      **kwargs: of the sh_test.
    """
    native.sh_test(
        name = name,
        srcs = ["//worker/collective:mpirun_test.sh"],
        args = [str(ranks), "$(location %s)" % program] + args,
        data = [program],
        **kwargs
    )
