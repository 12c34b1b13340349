#!/bin/bash
# Model versions without the coordinator: real processes, which serve each other,
# and what they still give when the coordinator is killed for good; a coordinator
# that has lost its state and has it back from them; and a worker that is killed
# in the middle of a download.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=programs_lib.sh
source "$TEST_SRCDIR/koinon/tests/e2e/programs_lib.sh"
trainer="$bin/tests/large/poke_trainer.py"

# field NAME FILE LINE_PATTERN: a field's value in the last such line of a log.
field() {
  grep -E -- "$3" "$2" | tail -n 1 | sed -E "s/.* $1=([^ ]*).*/\1/"
}

# start_coordinator LISTEN FLAG...: sets `leader` (its process) and `address`.
start_coordinator() {
  local listen="$1"
  shift
  start_daemon coordinator.log "$coordinator" --listen "$listen" \
    --state-dir state "$@" || return 1
  leader="$started"
  address="$(address_in port)"
}

# start_worker NAME FLAG...: sets `last`.
start_worker() {
  local name="$1"
  shift
  "$worker" --name "$name" --coordinator "$address" --state-dir "$name" \
    --peer-listen 127.0.0.1:0 "$@" >>"$name.log" 2>&1 &
  last=$!
}

# await_known VERSION NODE FLAG...: until that is what a node finds when it looks
# for the job's newest version. A coordinator that could not reach enough nodes
# to keep a version's records tries again: killed before, it takes them with it.
await_known() {
  local version="$1" node="$2"
  shift 2
  until "$koinon" pull table --bootstrap "$node" -o known.safetensors "$@" \
    >known.txt 2>&1 </dev/null && grep -q "$version" known.txt; do
    kill -0 "$leader" 2>/dev/null || return 1
    rm -f known.safetensors
    sleep 0.05
  done
  rm known.safetensors
}

# fresh NAME: an empty folder to work in.
fresh() {
  mkdir -p "$TEST_TMPDIR/$1"
  cd "$TEST_TMPDIR/$1" || exit 1
}

# Some 400 KB: several pieces.
make_job() {
  cat <<'END'
name: "table"
dataset: "table"
model { input_shape: 2 mlp { hidden: 300 hidden: 300 classes: 3 } }
cohort { target: 3 minimum: 3 }
rounds: 3
seed: 1
END
}

# --- With mutual TLS. ---
coordinator_killed_for_good() {
  fresh tls
  make_table >table.csv
  make_job >job.txtpb
  expect_exit 0 "certs" "$koinon" certs certs --host 127.0.0.1 \
    --worker w1 --worker w2 --worker w3
  start_coordinator 127.0.0.1:0 --tls-cert certs/server.pem --tls-key certs/server.key \
    --tls-ca certs/ca.pem || { fail "no coordinator"; return; }
  local name pids=()
  for name in w1 w2 w3; do
    start_worker "$name" --dataset "$table" --tls-cert "certs/worker-$name.pem" \
      --tls-key "certs/worker-$name.key" --tls-ca certs/ca.pem
    pids+=("$last")
  done
  export KOINON_COORDINATOR="$address" KOINON_CERTS=certs
  expect_exit 0 "submit --watch" "$koinon" submit job.txtpb --watch
  expect_text 'table: succeeded after 3 rounds' "submit --watch"
  expect_exit 0 "rounds --detail" "$koinon" rounds table --detail
  expect_text 'base version: .* from peers, .* from the coordinator' "rounds"
  expect_exit 0 "models --json" "$koinon" models table --json
  mv out.txt models.json
  expect_exit 0 "the lineage" /usr/bin/python3 -c '
import json
models = json.load(open("models.json"))["models"]
assert [m["version"] for m in models] == ["0", "1", "2", "3"], models
for parent, child in zip(models, models[1:]):
    assert child["parent_digest"] == parent["digest"], child
    assert child["signed"]["digest"] == child["digest"], child
assert len({m["signer"] for m in models}) == 1, models'
  expect_exit 0 "models pin" "$koinon" models pin table@1
  expect_text 'table@1 is pinned' "models pin"
  expect_exit 0 "models" "$koinon" models table
  expect_text 'table@1 .* yes ' "models"
  expect_exit 0 "models unpin" "$koinon" models unpin table@1
  expect_exit 2 "models pin without a version" "$koinon" models pin table
  expect_exit 0 "pull" "$koinon" pull table@3 -o reference.safetensors
  expect_text "signed by the federation's server" "pull"
  expect_exit 0 "pull" "$koinon" pull table@2 -o reference-2.safetensors

  local node
  node="$(field address w1.log 'serving model versions to others')"
  await_known table@3 "$node" || fail "nobody knows version 3: $(cat known.txt)"
  kill -KILL "$leader"
  wait "$leader" 2>/dev/null
  rm -r state
  unset KOINON_COORDINATOR
  expect_exit 0 "pull without a coordinator" "$koinon" pull table \
    --bootstrap "$node" -o pulled.safetensors
  expect_text 'table@3' "pull without a coordinator"
  expect_text "signed by the federation's server" "pull without a coordinator"
  expect_text ' from peers, 0 B from the coordinator' \
    "pull without a coordinator"
  cmp reference.safetensors pulled.safetensors || fail "other bytes"
  node="$(field address w2.log 'serving model versions to others')"
  expect_exit 0 "pull of an older version" "$koinon" pull table@2 \
    --bootstrap "$node" -o pulled-2.safetensors
  cmp reference-2.safetensors pulled-2.safetensors || fail "other bytes"
  expect_exit 1 "pull of a version that nobody has" "$koinon" pull table@77 \
    --bootstrap "$node" -o nothing.safetensors
  expect_text 'no record of table@77 in the DHT' \
    "pull of a version that nobody has"
  [[ -e nothing.safetensors ]] && fail "a failed pull has written"
  expect_exit 3 "pull by a node that is not there" "$koinon" pull table \
    --bootstrap "$address" -o nothing.safetensors
  expect_exit 3 "pull in plaintext" env -u KOINON_CERTS "$koinon" pull table \
    --bootstrap "$node" --insecure -o nothing.safetensors
  kill "${pids[@]}"
  wait "${pids[@]}"
  unset KOINON_CERTS
}

# --- With mutual TLS, and all that the coordinator had lost. ---
# version_of VERSION: its digest and its parent's, by the coordinator.
version_of() {
  expect_exit 0 "models --json" "$koinon" models table --json
  /usr/bin/python3 -c '
import json, sys
for model in json.load(open("out.txt"))["models"]:
    if model["version"] == sys.argv[1]:
        print(model["digest"], model.get("parent_digest"))' "$1"
}

state_lost_and_recovered() {
  fresh recovery
  make_table >table.csv
  make_job | sed 's/rounds: 3/rounds: 1000/; s/target: 3 minimum: 3/target: 2 minimum: 2/' \
    >job.txtpb
  local tls=(--tls-cert certs/server.pem --tls-key certs/server.key
    --tls-ca certs/ca.pem)
  expect_exit 0 "certs" "$koinon" certs certs --host 127.0.0.1 \
    --worker w1 --worker w2
  start_coordinator 127.0.0.1:0 "${tls[@]}" || { fail "no coordinator"; return; }
  local name pids=()
  for name in w1 w2; do
    start_worker "$name" --dataset "$table" --tls-cert "certs/worker-$name.pem" \
      --tls-key "certs/worker-$name.key" --tls-ca certs/ca.pem
    pids+=("$last")
  done
  export KOINON_COORDINATOR="$address" KOINON_CERTS=certs
  expect_exit 0 "submit" "$koinon" submit job.txtpb
  await_text 'round published job=table round=1' coordinator.log "$leader" ||
    fail "no first version"
  # Held before its next round, so that the last version is the last.
  expect_exit 0 "pause" "$koinon" pause table
  await_last_round coordinator.log "$leader" || return
  local version node before
  version="$(field round coordinator.log 'round published')"
  before="$(version_of "$version")"
  node="$(field address w1.log 'serving model versions to others')"
  await_known "table@$version" "$node" ||
    fail "nobody knows version $version: $(cat known.txt)"
  # Known it is from the coordinator on; whoever evaluates it has it too.
  until grep -q "model fetched job=table version=$version " w[12].log; do
    kill -0 "$leader" 2>/dev/null || { fail "the coordinator is gone"; return; }
    sleep 0.05
  done

  # The state, and the certificate that the versions were signed under.
  kill -KILL "$leader"
  wait "$leader" 2>/dev/null
  rm -r state certs/server.pem certs/server.key
  expect_exit 0 "another certificate" "$koinon" certs certs --extend \
    --host 127.0.0.1
  # Where the workers look for it; they have not been told of anything.
  mv coordinator.log lost.log
  start_coordinator "$address" "${tls[@]}" --recover table --bootstrap "$node" ||
    { fail "no recovery"; return; }
  expect_text "job recovered job=table version=$version goes_on=true" \
    "recovery" coordinator.log
  [[ "$(version_of "$version" | cut -d' ' -f1)" == "${before%% *}" ]] ||
    fail "version $version was $before, is $(version_of "$version")"
  local next=$((version + 1))
  await_text "round published job=table round=$next" coordinator.log "$leader" ||
    fail "the job does not go on"
  [[ "$(version_of "$next" | cut -d' ' -f2)" == "${before%% *}" ]] ||
    fail "version $next came of $(version_of "$next"), expected $before"
  expect_exit 0 "cancel" "$koinon" cancel table
  # Somebody else's federation finds nothing of it there.
  expect_exit 0 "certs" "$koinon" certs others --host 127.0.0.1
  expect_exit 1 "recovery by another federation" "$coordinator" \
    --listen 127.0.0.1:0 --state-dir others-state --tls-cert others/server.pem \
    --tls-key others/server.key --tls-ca others/ca.pem --recover table \
    --bootstrap "$node"
  expect_text '--recover table: no node of --bootstrap answers' \
    "recovery by another federation"
  kill "${pids[@]}" "$leader"
  wait "${pids[@]}" "$leader"
  unset KOINON_COORDINATOR KOINON_CERTS
}

# --- In plaintext, where the signer's key is all there is. ---
signer_in_plaintext() {
  fresh plain
  make_table >table.csv
  make_job | sed 's/target: 3 minimum: 3/target: 1 minimum: 1/' >job.txtpb
  start_coordinator 127.0.0.1:0 --insecure || { fail "no coordinator"; return; }
  start_worker w1 --insecure --dataset "$table"
  export KOINON_COORDINATOR="$address"
  expect_exit 0 "submit --watch" "$koinon" submit job.txtpb --watch --insecure
  expect_exit 0 "pull" "$koinon" pull table -o reference.safetensors --insecure
  expect_text 'signed by [0-9a-f]{64}, which no certificate names' "pull"
  local signer node
  signer="$(grep -Eo '[0-9a-f]{64}' out.txt | head -n 1)"
  node="$(field address w1.log 'serving model versions to others')"
  await_known table@3 "$node" --insecure ||
    fail "nobody knows version 3: $(cat known.txt)"
  unset KOINON_COORDINATOR
  kill -KILL "$leader"
  wait "$leader" 2>/dev/null
  expect_exit 0 "pull by one signer" "$koinon" pull table --bootstrap "$node" \
    -o pulled.safetensors --insecure --signer "$signer"
  cmp reference.safetensors pulled.safetensors || fail "other bytes"
  expect_exit 1 "pull by another signer" "$koinon" pull table \
    --bootstrap "$node" -o nothing.safetensors --insecure \
    --signer "$(tr '0-9a-f' '1-9a-f0' <<<"$signer")"
  expect_text "signed by $signer, expected" "pull by another signer"
  expect_exit 2 "a signer that is none" "$koinon" pull table \
    --bootstrap "$node" -o nothing.safetensors --insecure --signer xyz
  kill "$last"
  wait "$last"
}

# --- Killed in the middle of a download of 256 MiB, three times. ---
killed_while_fetching() {
  fresh resume
  cat >job.txtpb <<'END'
name: "large"
dataset: "records"
model {
  input_shape: 8192
  layers { layers { dense { units: 8192 no_bias: true } } }
}
training { external_trainer: "poke" }
evaluation { every_rounds: -1 }
rounds: 1
seed: 1
END
  # Kills a worker once so large a part of the download is known to be on disk
  # (the .pieces file: dht/swarm/saved_pieces.h), unless it is over; says how many
  # bytes.
  cat >kill_at.py <<'END'
import glob, os, signal, struct, sys, time
share, log, worker = float(sys.argv[1]), sys.argv[2], int(sys.argv[3])
saved = 0
while "model fetched" not in open(log).read():
    for name in glob.glob("w1/models/*.pieces"):
        try:
            data = open(name, "rb").read()
        except FileNotFoundError:
            continue
        if len(data) < 92:
            continue
        size, piece, hashes = struct.unpack("<QQI", data[40:60])
        bits = data[60 + 32 * hashes:-32]
        have = [i for i in range(hashes) if bits[i // 8] >> (i % 8) & 1]
        saved = sum(min(piece, size - i * piece) for i in have)
        if saved >= share * size:
            os.kill(worker, signal.SIGKILL)
            print(saved)
            sys.exit()
    time.sleep(0.001)
print(saved)
END
  start_coordinator 127.0.0.1:0 --insecure || { fail "no coordinator"; return; }
  local flags=(--insecure
    --dataset 'name: "records" source { external { examples: 10 } }'
    --external-trainer "poke=/usr/bin/python3 $trainer")
  start_worker w1 "${flags[@]}"
  export KOINON_COORDINATOR="$address"
  expect_exit 0 "submit" "$koinon" submit job.txtpb --insecure
  local size=$((8192 * 8192 * 4)) share now saved=0 kills=0 fetched
  for share in 0.1 0.4 0.7; do
    now="$(/usr/bin/python3 kill_at.py "$share" w1.log "$last")"
    kill -KILL "$last" 2>/dev/null
    wait "$last" 2>/dev/null
    grep -q 'model fetched' w1.log && break
    saved="$now"
    kills=$((kills + 1))
    echo "killed with $saved bytes saved"
    start_worker w1 "${flags[@]}"
  done
  ((kills > 0)) || fail "the download ended before the worker could be killed"
  kill -0 "$last" 2>/dev/null || start_worker w1 "${flags[@]}"
  await_text 'model fetched' w1.log "$last" || fail "not fetched"
  fetched="$(field from_coordinator w1.log 'model fetched')"
  echo "fetched after the last kill: $fetched of some $size bytes"
  # The file has a header too.
  ((fetched <= size + 1024 - saved)) || fail "what was saved is fetched again"
  expect_exit 0 "watch" "$koinon" watch large --insecure
  expect_text 'large: succeeded after 1 round' "watch"
  kill "$last" "$leader"
  wait "$last" "$leader"
  unset KOINON_COORDINATOR
  cd "$TEST_TMPDIR" && rm -r resume
}

coordinator_killed_for_good
state_lost_and_recovered
signer_in_plaintext
killed_while_fetching
finish
