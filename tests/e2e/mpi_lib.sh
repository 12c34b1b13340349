# shellcheck shell=bash
# shellcheck disable=SC2034  # used by those that source it
# What the tests of sites under mpirun share; sourced. A coordinator and ranks,
# all on loopback or in network namespaces of their own.

# shellcheck source-path=SCRIPTDIR source=programs_lib.sh
source "$TEST_SRCDIR/koinon/tests/e2e/programs_lib.sh"

# Tests may run as root (in containers), and on fewer cores than ranks.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export TMPDIR="$TEST_TMPDIR" OMP_NUM_THREADS=1

# start_coordinator ADDRESS FLAG...: sets `leader` and `address`.
start_coordinator() {
  local listen="$1"
  shift
  start_daemon coordinator.log "$@" "$coordinator" --listen "$listen:0" \
    --state-dir state --insecure || return 1
  leader="$started"
  address="$(address_in port "$listen")"
}

as_client() { "$koinon" "$@" --coordinator "$address" --insecure; }

# pid_of RANK FILE: of a rank, as it said itself, newest start last.
pid_of() {
  grep -E "rank ready rank=$1 " "$2" | tail -n 1 | sed -E 's/.* pid=([0-9]+).*/\1/'
}

# make_job NAME ROUNDS TRAINING
make_job() {
  cat <<END
name: "$1"
dataset: "table"
model { input_shape: 2 mlp { hidden: 16 classes: 3 } }
training { batch_size: 12 $3 }
cohort { target: 1 minimum: 1 }
evaluation { every_rounds: -1 }
rounds: $2
seed: 1
END
}
