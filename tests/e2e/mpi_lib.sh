# shellcheck shell=bash
# shellcheck disable=SC2034  # used by those that source it
# What the tests of sites under mpirun share; sourced. A coordinator and ranks,
# all on loopback or in network namespaces of their own.

bin="$TEST_SRCDIR/koinon"
koinon="$bin/tools/koinon"
coordinator="$bin/coordinator/koinon-coordinator"
worker="$bin/worker/koinon-worker"
cd "$TEST_TMPDIR" || exit 1

# Tests may run as root (in containers), and on fewer cores than ranks.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export TMPDIR="$TEST_TMPDIR" OMP_NUM_THREADS=1

failures=0
fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# expect_text PATTERN WHAT FILE
expect_text() {
  grep -Eq -- "$1" "$3" && return
  fail "$2: no '$1' in $3"
  cat "$3" >&2
}

# await_text PATTERN FILE PID: until the process has written it.
await_text() {
  until grep -Eq -- "$1" "$2" 2>/dev/null; do
    kill -0 "$3" 2>/dev/null || return 1
    sleep 0.05
  done
}

# await_end PID SECONDS: the exit code of a process of ours in `code`; fails if
# it has not ended by then.
await_end() {
  local i
  for ((i = 0; i < $2 * 20; ++i)); do
    if ! kill -0 "$1" 2>/dev/null; then
      wait "$1"
      code=$?
      return 0
    fi
    sleep 0.05
  done
  return 1
}

# start_coordinator ADDRESS FLAG...: sets `leader` and `address`.
start_coordinator() {
  local listen="$1"
  shift
  rm -f port
  "$@" "$coordinator" --listen "$listen:0" --state-dir state --port-file port \
    --insecure >coordinator.log 2>&1 &
  leader=$!
  until [[ -s port ]]; do
    if ! kill -0 "$leader" 2>/dev/null; then
      cat coordinator.log >&2
      return 1
    fi
    sleep 0.05
  done
  address="$listen:$(tr -d '[:space:]' <port)"
}

as_client() { "$koinon" "$@" --coordinator "$address" --insecure; }

# pid_of RANK FILE: of a rank, as it said itself, newest start last.
pid_of() {
  grep -E "rank ready rank=$1 " "$2" | tail -n 1 | sed -E 's/.* pid=([0-9]+).*/\1/'
}

make_table() {
  echo "x,y,label"
  local i
  for ((i = 0; i < 60; ++i)); do
    echo "$((i % 3 == 0 ? 2 : 0)).$((i % 10)),$((i % 3 == 1 ? 2 : 0)).5,$((i % 3))"
  done
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
table='name: "table" source { csv { path: "table.csv" label: "label" } }'
