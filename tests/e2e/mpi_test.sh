#!/bin/bash
# Four ranks under mpirun as one worker of a real coordinator; and what becomes
# of them when one is killed, or hangs, in the midst of training.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=mpi_lib.sh
source "$TEST_SRCDIR/koinon/tests/e2e/mpi_lib.sh"

# start_site LOG FLAG...: sets `site` (mpirun's process).
start_site() {
  local log="$1"
  shift
  # Ranks that are told to stop have more than a second for it, as under systemd.
  mpirun -n 4 --oversubscribe --bind-to none --mca btl self,vader \
    --mca odls_base_sigkill_timeout 3 \
    --mca oob_tcp_if_include lo "$worker" --name site --coordinator "$address" \
    --state-dir site --dataset "$table" --insecure --threads 1 "$@" \
    >"$log" 2>&1 </dev/null &
  site=$!
}

# stop_site LOG: as its operator does.
stop_site() {
  kill -TERM "$site"
  await_end "$site" 30 || fail "mpirun did not stop"
  expect_text ' I stopped' "stop" "$1"
}

four_ranks_are_one_worker() {
  start_site good.log
  make_job plain 2 'epochs: 3' >plain.txtpb
  make_job rare 1 'epochs: 3 site_steps: 4' >rare.txtpb
  as_client submit plain.txtpb --watch >plain.out 2>&1 </dev/null ||
    fail "submit plain"
  expect_text 'plain: succeeded after 2 rounds' "plain" plain.out
  as_client submit rare.txtpb --watch >rare.out 2>&1 </dev/null ||
    fail "submit rare"
  expect_text 'rare: succeeded after 1 round' "rare" rare.out
  as_client nodes >nodes.out 2>&1
  [[ "$(grep -c site nodes.out)" == 1 ]] || fail "nodes: not one worker"
  as_client rounds plain --detail >rounds.out 2>&1
  expect_text 'ranks of site: 4 ranks on 1 node, .* waiting' "detail" rounds.out
  expect_text 'rank ready rank=3 ranks=4 node=0 nodes=1' "log" good.log
  stop_site good.log
}

# fault NAME SIGNAL RANK PATTERN SECONDS FLAG...: a rank gets a signal in
# mid-training; the site must end, saying why, and go on once it is started
# again.
fault() {
  local name="$1" signal="$2" rank="$3" pattern="$4" seconds="$5"
  shift 5
  # More than a round: one that is over when the signal falls is not all.
  make_job "$name" 3 'steps: 3000' >"$name.txtpb"
  start_site "$name.log" "$@"
  await_text 'rank ready rank=3' "$name.log" "$site" || fail "$name: start"
  as_client submit "$name.txtpb" >"$name.out" 2>&1 </dev/null ||
    fail "submit $name"
  await_text "training rank=$rank job=$name" "$name.log" "$site" ||
    fail "$name: no training"
  kill "-$signal" "$(pid_of "$rank" "$name.log")"
  if ! await_end "$site" "$seconds"; then
    fail "$name: mpirun still runs after $seconds s"
    cat "$name.log" >&2
    kill -KILL "$site"
    return
  fi
  [[ "$code" != 0 ]] || fail "$name: exit code 0"
  expect_text "$pattern" "$name" "$name.log"
  # Its supervisor starts it again; the round was not lost.
  start_site "$name-again.log" "$@"
  as_client watch "$name" >"$name-watch.out" 2>&1 </dev/null ||
    fail "watch $name"
  expect_text "$name: succeeded after 3 rounds" "$name" "$name-watch.out"
  stop_site "$name-again.log"
}

# A site of which a rank dies, and is not started again, is one worker less.
round_goes_on_without_a_dead_site() {
  start_site gone.log
  "$worker" --name other --coordinator "$address" --state-dir other \
    --dataset "$table" --insecure >other-worker.log 2>&1 </dev/null &
  local other=$!
  await_text 'rank ready rank=3' gone.log "$site" || fail "gone: start"
  await_text 'I connected' other-worker.log "$other" || fail "gone: other"
  make_job gone 1 'steps: 6000' |
    sed 's/target: 1 minimum: 1/target: 2 minimum: 1/' >gone.txtpb
  as_client submit gone.txtpb >gone.out 2>&1 </dev/null || fail "submit gone"
  await_text 'training rank=2 job=gone' gone.log "$site" ||
    fail "gone: no training"
  kill -KILL "$(pid_of 2 gone.log)"
  await_end "$site" 20 || fail "gone: mpirun still runs"
  as_client watch gone >gone-watch.out 2>&1 </dev/null || fail "watch gone"
  expect_text 'gone: succeeded after 1 round' "gone" gone-watch.out
  kill -TERM "$other"
  wait "$other" || fail "gone: the other worker's exit code $?"
}

no_mpirun_no_mpi() {
  "$worker" --name single --coordinator "$address" --state-dir single \
    --dataset "$table" --insecure >single.log 2>&1 </dev/null &
  local single=$!
  await_text 'I connected' single.log "$single" || fail "single: no session"
  grep -q libmpi "/proc/$single/maps" || fail "single: maps are not what we read"
  if grep -Eq 'mca_|rank ready' "/proc/$single/maps" single.log; then
    fail "a worker of its own has started MPI"
  fi
  kill -TERM "$single"
  wait "$single" || fail "single: exit code $?"
}

ranks_with_other_data_do_not_start() {
  make_table | tail -n +3 | (echo "x,y,label" && cat) >other.csv
  local code=0
  mpirun -n 1 "$worker" --name site --coordinator "$address" --state-dir site \
    --dataset "$table" --insecure \
    : -n 1 "$worker" --name site --coordinator "$address" --state-dir site \
    --dataset "${table/table.csv/other.csv}" --insecure \
    >other.log 2>&1 </dev/null || code=$?
  [[ "$code" == 2 ]] || fail "ranks with other data: exit code $code"
  expect_text 'the data that this rank has read: expected .* on rank 1' \
    "other data" other.log
}

rank_that_hangs_at_the_start_ends_the_site() {
  mkfifo never.csv
  mpirun -n 1 "$worker" --name site --coordinator "$address" --state-dir site \
    --dataset "$table" --insecure --mpi-timeout 2 \
    : -n 1 "$worker" --name site --coordinator "$address" --state-dir site \
    --dataset "${table/table.csv/never.csv}" --insecure --mpi-timeout 2 \
    >never.log 2>&1 </dev/null &
  site=$!
  if ! await_end "$site" 60; then
    fail "a rank that hangs at the start: mpirun still runs"
    kill -KILL "$site"
    return
  fi
  [[ "$code" == 1 ]] || fail "a rank that hangs at the start: exit code $code"
  expect_text 'rank 1 \(host .*\) made no progress' "hangs at start" never.log
}

# Answers are compared in it; figures of a machine that does other things mean
# nothing, but that they are there.
benchmark_prints_what_it_measured() {
  "$koinon" bench mpi --ranks 3 --megabytes 0.1,2 --models mlp --batch 4 \
    --repetitions 1 --json >bench.json 2>bench.log </dev/null || {
    fail "bench mpi"
    cat bench.log >&2
  }
  python3 - bench.json <<'END' || fail "bench mpi: $(cat bench.json)"
import json, sys
figures = json.load(open(sys.argv[1]))
assert figures["ranks"] == 3 and figures["nodes"] == 1
assert [s["bytes"] for s in figures["sums"]] == [100000, 2000000]
assert all(s["gb_per_second"] > 0 and s["times_mpi"] > 0 for s in figures["sums"])
assert [s["batch"] for s in figures["sites"]] == ["per rank", "divided"]
for site in figures["sites"]:
    assert site["batch_size"] == 4
    assert site["step_bytes"] == 4 * (784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10)
    assert site["alone_per_second"] > 0 and site["together_per_second"] > 0
    assert site["apart_per_second"] > 0 and site["ceiling"] > 0
    assert 0 <= site["hidden"] <= 1 and 0 <= site["waiting"]
END
  "$koinon" bench mpi --ranks 3 --across-nodes --megabytes 0.1,2 \
    --repetitions 1 --json >nodes.json 2>nodes.log </dev/null || {
    fail "bench mpi --across-nodes"
    cat nodes.log >&2
  }
  python3 - nodes.json <<'END' || fail "bench mpi: $(cat nodes.json)"
import json, sys
figures = json.load(open(sys.argv[1]))
assert figures["ranks"] == 3 and figures["nodes"] == 3
assert all(s["gb_per_second"] > 0 and s["times_mpi"] > 0 for s in figures["sums"])
END
}

make_table >table.csv
benchmark_prints_what_it_measured
start_coordinator 127.0.0.1 || exit 1
four_ranks_are_one_worker
fault killed KILL 2 'rank 2 \(host .*\) died|signal 9' 20
expect_text 'worker left .*rank 2' "killed" coordinator.log
fault hung STOP 1 'rank 1 \(host .*\) made no progress' 60 --mpi-timeout 5
round_goes_on_without_a_dead_site
no_mpirun_no_mpi
ranks_with_other_data_do_not_start
rank_that_hangs_at_the_start_ends_the_site
kill -TERM "$leader"
wait "$leader"
finish
