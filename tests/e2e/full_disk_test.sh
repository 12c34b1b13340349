#!/bin/bash
# Disks that fill up under real processes: small file systems in memory, in a
# mount namespace of this test's own, which a worker and a koinon-dht node keep
# their state on. Needs root or user namespaces; where it has not got them, it says
# so and ends well, or fails if KOINON_REQUIRE_MOUNT is set in the environment of
# bazel test.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=programs_lib.sh
source "$TEST_SRCDIR/koinon/tests/e2e/programs_lib.sh"
trainer="$bin/tests/large/poke_trainer.py"

if [[ -z "${KOINON_TEST_MAY_MOUNT:-}" ]]; then
  # shellcheck disable=SC2016  # of the other shell
  try='mkdir -p "$0" && mount -t tmpfs -o size=1m none "$0"'
  for how in "unshare --mount" "unshare --map-root-user --mount"; do
    # Words of a command.
    # shellcheck disable=SC2086
    if $how sh -c "$try" "$PWD/may" 2>>skipped.txt; then
      export KOINON_TEST_MAY_MOUNT=yes
      exec $how "$bin/tests/e2e/full_disk_test.sh"
    fi
  done
  if [[ -n "${KOINON_REQUIRE_MOUNT:-}" ]]; then
    fail "no file system can be mounted here, and KOINON_REQUIRE_MOUNT is set:" \
      "$(cat skipped.txt)"
    exit 1
  fi
  echo "SKIPPED: no file system can be mounted here: $(cat skipped.txt)" >&2
  echo "SKIPPED: full disks under real processes are NOT tested" >&2
  exit 0
fi

# small_disk DIR SIZE
small_disk() {
  mkdir -p "$1" && mount -t tmpfs -o "size=$2" none "$1" || exit 1
}

# fill DIR: leaves no byte, until empty DIR. What somebody frees meanwhile is taken
# again, for who has room for a moment may make more.
fill() {
  head -c 1G /dev/zero >"$1/filler" 2>/dev/null
  : >filling
  while [[ -e filling ]]; do
    head -c 1G /dev/zero >>"$1/filler" 2>/dev/null
    sleep 0.01
  done &
  filler="$!"
}

empty() {
  rm filling
  wait "$filler"
  rm "$1/filler"
}

# published_with UPDATES: how many rounds were.
published_with() {
  grep -c "round published .*updates=$1 " coordinator.log
}

# await_published UPDATES: one more round than now is published with so many.
await_published() {
  local before
  before="$(published_with "$1")"
  until (($(published_with "$1") > before)); do
    kill -0 "$leader" 2>/dev/null || { fail "the coordinator is gone"; return; }
    sleep 0.05
  done
}

# A node of the DHT: it goes on answering, keeps what it has, says why it does
# not take more, and takes it once there is room.
node_on_a_full_disk() {
  small_disk dht 256k
  start_daemon dht.log "$dht" --listen 127.0.0.1:0 --state-dir dht --insecure ||
    exit 1
  local node="$started" ask=(--insecure --bootstrap "$(address_in port)")
  echo one >one
  echo two >two
  expect_exit 0 "put" "$koinon" dht put one "${ask[@]}"
  local one
  one="$(sed -n 's/^key *//p' out.txt)"
  fill dht
  expect_exit 3 "put on a full disk" "$koinon" dht put two "${ask[@]}"
  expect_text 'kept by 0 of 1 nodes, 1 wanted.*this node cannot write records' \
    "put on a full disk"
  expect_text 'records cannot be written.*No space left on device' \
    "the node's log" dht.log
  expect_exit 0 "get" "$koinon" dht get "$one" "${ask[@]}" -o got
  cmp one got || fail "another value"
  expect_exit 0 "status" "$koinon" dht status "${ask[@]}"
  expect_text '^keeps +1 records' "status"
  expect_text 'unwritten: [1-9]' "status"

  empty dht
  expect_exit 0 "put where there is room again" "$koinon" dht put two "${ask[@]}"
  expect_text 'records can be written again' "the node's log" dht.log
  local two
  two="$(sed -n 's/^key *//p' out.txt)"
  # What it says it has is on its disk.
  kill -KILL "$node"
  wait "$node" 2>/dev/null
  start_daemon dht.log "$dht" --listen 127.0.0.1:0 --state-dir dht --insecure ||
    exit 1
  ask=(--insecure --bootstrap "$(address_in port)")
  expect_exit 0 "get after a restart" "$koinon" dht get "$one" "${ask[@]}"
  expect_exit 0 "get after a restart" "$koinon" dht get "$two" "${ask[@]}" -o got
  cmp two got || fail "another value after a restart"
  end "$started" TERM || fail "the node's exit code"
}

# A worker: its fetch fails and it says why, the rounds go on without it, and
# with it once there is room.
worker_on_a_full_disk() {
  cat >job.txtpb <<'END'
name: "large"
dataset: "records"
model {
  input_shape: 1024
  layers { layers { dense { units: 1024 no_bias: true } } }
}
training { external_trainer: "poke" }
cohort { target: 3 minimum: 2 }
evaluation { every_rounds: -1 }
rounds: 100000
seed: 1
END
  start_daemon coordinator.log "$coordinator" --listen 127.0.0.1:0 \
    --state-dir state --insecure || exit 1
  leader="$started"
  export KOINON_COORDINATOR
  KOINON_COORDINATOR="$(address_in port)"
  small_disk w3 64m
  local name workers=()
  for name in w1 w2 w3; do
    "$worker" --name "$name" --coordinator "$KOINON_COORDINATOR" --insecure \
      --state-dir "$name" --peer-listen 127.0.0.1:0 --threads 1 \
      --dataset 'name: "records" source { external { examples: 10 } }' \
      --external-trainer "poke=/usr/bin/python3 $trainer" >"$name.log" 2>&1 &
    workers+=("$!")
  done
  expect_exit 0 "submit" "$koinon" submit job.txtpb --insecure
  await_published 3

  fill w3
  await_text 'model not fetched.*No space left on device' w3.log "${workers[2]}" ||
    fail "the worker does not say that its disk is full: $(tail -n 5 w3.log)"
  await_published 2
  kill -0 "${workers[2]}" || fail "the worker is gone: $(tail -n 5 w3.log)"
  expect_text 'task failed.*worker=w3.*No space left on device' "its reason" \
    coordinator.log
  empty w3
  await_published 3
  expect_exit 0 "cancel" "$koinon" cancel large --insecure
  for name in "${workers[@]}" "$leader"; do
    end "$name" TERM || fail "an exit code after SIGTERM"
  done
  # Nothing is there that is not what its name says.
  local file digest
  for file in w[123]/models/*.safetensors; do
    digest="$(sha256sum "$file" | cut -d' ' -f1)"
    [[ "$(basename "$file" .safetensors)" == "$digest" ]] ||
      fail "$file is $digest"
  done
  [[ -n "$digest" ]] || fail "no version is there"
}

node_on_a_full_disk
worker_on_a_full_disk
finish
