#!/bin/bash
# mpirun_test.sh RANKS PROGRAM ARGUMENT...: the program's tests, by every rank,
# all on this machine's loopback.
set -euo pipefail

ranks="$1"
shift
# Tests may run as root (in containers), and on fewer cores than ranks.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export TMPDIR="${TEST_TMPDIR:-/tmp}" OMP_NUM_THREADS=1
# One log of results for all ranks would be written by all of them at once.
unset XML_OUTPUT_FILE GTEST_SHARD_INDEX GTEST_TOTAL_SHARDS
exec mpirun -n "$ranks" --oversubscribe --bind-to none --tag-output \
  --mca btl self,vader --mca oob_tcp_if_include lo "$@"
