#!/bin/bash
# The Slurm batch script, with an srun of this test's own: starts ranks again
# after a fault, does not after an error of the operator's, and stops when told.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=programs_lib.sh
source "$TEST_SRCDIR/koinon/tests/e2e/programs_lib.sh"

script="$bin/deploy/mpi/koinon-site.sbatch"

mkdir -p bin
# Ends with the next of the codes in codes.txt; "wait" runs until it is told.
cat >bin/srun <<'END'
#!/bin/bash
echo "$*" >>calls.txt
next="$(head -n 1 codes.txt)"
sed -i 1d codes.txt
if [[ "$next" == wait ]]; then
  trap 'kill "$child"; exit 0' TERM
  sleep 600 &
  child=$!
  echo waiting >state.txt
  wait
fi
exit "$next"
END
chmod +x bin/srun
export PATH="$PWD/bin:$PATH" KOINON_RESTART_SECONDS=0 KOINON_CONFIG=site.toml

# run WHAT EXPECTED_CODE CALLS CODE...
run() {
  local what="$1" expected="$2" calls="$3" code=0
  shift 3
  printf '%s\n' "$@" >codes.txt
  : >calls.txt
  "$script" 2>"$what.log" || code=$?
  [[ "$code" == "$expected" ]] || fail "$what: exit code $code"
  [[ "$(wc -l <calls.txt)" == "$calls" ]] || fail "$what: $(cat calls.txt)"
}

run faults 0 4 137 1 143 0
grep -q 'exit code 137; starting them again' faults.log || fail "says nothing"
grep -q -- '--mpi=pmix .*koinon-worker --config site.toml' calls.txt ||
  fail "srun was called with $(cat calls.txt)"
run operator 2 2 1 2
run in_use 3 1 3

printf 'wait\n' >codes.txt
rm -f state.txt
"$script" 2>stop.log &
batch=$!
await_file state.txt "$batch" || fail "stop: srun was not called"
end "$batch" TERM || fail "stop: exit code $?"
finish
