#!/bin/bash
# The programs as people use them: a federation over a small table with mutual
# TLS, from certificates to the pulled model, and the exit codes that
# docs/operations.md promises.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=programs_lib.sh
source "$TEST_SRCDIR/koinon/tests/e2e/programs_lib.sh"

make_table >table.csv
cat >job.txtpb <<'EOF'
name: "table"
dataset: "table"
model { input_shape: 2 logistic_regression { classes: 3 } }
cohort { target: 2 minimum: 2 }
rounds: 3
seed: 1
EOF

# --- A federation in one command, and a client of it. ---
federation_over_tls() {
  "$koinon" up --workers 2 --partition iid --state-dir up \
    --dataset "$table" \
    >up.txt 2>&1 </dev/null &
  local up=$!
  if ! await_file up/coordinator.port "$up"; then
    fail "koinon up did not start"
    cat up.txt >&2
    return
  fi
  export KOINON_COORDINATOR KOINON_CERTS=up/certs
  KOINON_COORDINATOR="$(address_in up/coordinator.port)"

  expect_exit 0 "submit --watch" "$koinon" submit job.txtpb --watch
  expect_text 'table: succeeded after 3 rounds' "submit --watch"
  expect_exit 0 "submit again" "$koinon" submit job.txtpb
  expect_exit 0 "jobs" "$koinon" jobs
  expect_text 'table +succeeded +3 +3' "jobs"
  expect_exit 0 "rounds --json" "$koinon" rounds table --json
  mv out.txt rounds.json
  expect_exit 0 "the rounds" /usr/bin/python3 -c '
import json
rounds = json.load(open("rounds.json"))["rounds"]
assert [r["round"] for r in rounds] == ["1", "2", "3"], rounds
assert all(r["included"] == ["worker-1", "worker-2"] for r in rounds), rounds'
  expect_exit 0 "nodes" "$koinon" nodes
  expect_text 'worker-2' "nodes"
  expect_exit 0 "models" "$koinon" models table
  local version
  for version in 0 1 2 3; do expect_text "table@$version " "models"; done
  expect_exit 0 "pull" "$koinon" pull table -o model.safetensors
  local digest
  digest="$(sha256sum model.safetensors | cut -d' ' -f1)"
  expect_exit 0 "models" "$koinon" models table
  expect_text "table@3 .*$digest" "the pulled file is version 3"
  expect_exit 0 "evaluate" "$koinon" evaluate model.safetensors --job job.txtpb \
    --dataset "$table"
  expect_exit 1 "pull of nothing" "$koinon" pull nothing -o nothing.safetensors
  expect_exit 1 "watch of nothing" "$koinon" watch nothing
  expect_exit 3 "plaintext to a TLS port" \
    env -u KOINON_CERTS "$koinon" jobs --insecure
  expect_exit 1 "a worker's certificate" "$koinon" jobs --certs '' \
    --tls-cert up/certs/worker-worker-1.pem \
    --tls-key up/certs/worker-worker-1.key --tls-ca up/certs/ca.pem
  expect_text 'needs role client' "a worker's certificate"
  sed 's/name: "table"/name: "doomed"/; s/rounds: 3/rounds: 1000/' \
    job.txtpb >doomed.txtpb
  expect_exit 0 "submit" "$koinon" submit doomed.txtpb
  expect_exit 0 "cancel" "$koinon" cancel doomed
  expect_exit 4 "watch of a cancelled job" "$koinon" watch doomed
  unset KOINON_COORDINATOR KOINON_CERTS

  end "$up" TERM || fail "koinon up after SIGTERM: exit code $?"
  expect_text 'stopped' "the coordinator's log" up/logs/coordinator.log
  expect_text 'stopped' "a worker's log" up/logs/worker-1.log
}

# --- Exit codes of the daemons. ---
exit_codes() {
  expect_exit 2 "coordinator: no flags" "$coordinator"
  expect_exit 2 "coordinator: unknown flag" "$coordinator" --fly
  expect_exit 2 "coordinator: neither TLS nor --insecure" \
    "$coordinator" --state-dir state
  expect_text '--insecure' "coordinator: neither TLS nor --insecure"
  expect_exit 2 "coordinator: bound of zero" \
    "$coordinator" --state-dir state --insecure --max-jobs 0
  expect_text '--max-jobs' "coordinator: bound of zero"
  expect_exit 2 "coordinator: unknown instruction set" \
    "$coordinator" --state-dir state --insecure --instruction-set sse9
  expect_text '--instruction-set.*sse9.*portable' \
    "coordinator: unknown instruction set"
  expect_exit 0 "coordinator: --help" "$coordinator" --help
  expect_exit 0 "coordinator: --version" "$coordinator" --version
  expect_exit 2 "worker: no flags" "$worker"
  expect_exit 2 "worker: unknown flag" "$worker" --fly
  expect_exit 0 "worker: --help" "$worker" --help

  local serve=("$coordinator" --listen 127.0.0.1:0 --state-dir state --insecure)
  start_daemon coordinator.log "${serve[@]}" ||
    fail "the coordinator did not start"
  local first="$started" address
  address="$(address_in port)"
  expect_exit 1 "second coordinator on one state directory" "${serve[@]}"
  expect_text 'another coordinator' "second coordinator"
  expect_exit 1 "second coordinator on one port" \
    "$coordinator" --listen "$address" --state-dir other --insecure
  expect_text "$address" "second coordinator on one port"

  local worker_flags=(--name w --coordinator "$address" --state-dir w --insecure
    --dataset)
  expect_exit 2 "worker: dataset that is not there" "$worker" \
    "${worker_flags[@]}" \
    'name: "d" source { csv { path: "no.csv" label: "label" } }'
  expect_text 'no.csv' "worker: dataset that is not there"
  worker_flags+=('name: "d" source { csv { path: "table.csv" label: "label" } }')
  "$worker" "${worker_flags[@]}" >worker.log 2>&1 &
  local working=$!
  await_text ' connected ' worker.log "$working" ||
    fail "the worker did not connect"
  expect_exit 3 "second worker on one state directory" \
    "$worker" "${worker_flags[@]}"
  end "$working" TERM || fail "worker after SIGTERM: exit code $?"
  end "$first" TERM || fail "coordinator after SIGTERM: exit code $?"

  # After the end, the same state is taken up again.
  start_daemon coordinator.log "${serve[@]}" ||
    fail "the coordinator did not start again"
  end "$started" INT || fail "coordinator after SIGINT: exit code $?"
}

# --- Rules on files. ---
aggregate_by_hand() {
  /usr/bin/python3 - <<'EOF'
import json, struct
def write(name, values, tensor="w"):
    data = struct.pack("<%df" % len(values), *values)
    header = json.dumps({tensor: {"dtype": "F32", "shape": [len(values)],
                                  "data_offsets": [0, len(data)]}}).encode()
    open(name, "wb").write(struct.pack("<Q", len(header)) + header + data)
write("u1.safetensors", [1, 2])
write("u2.safetensors", [1, 3])
write("u3.safetensors", [1, 2.5])
write("u4.safetensors", [0.5, 2.5])
write("u5.safetensors", [-1000, 1e6])
write("base.safetensors", [10, 20])
write("other.safetensors", [1, 2], "v")
write("nan.safetensors", [1, float("nan")])
EOF
  cat >values.py <<'EOF'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
start = 8 + struct.unpack("<Q", data[:8])[0]
print(*struct.unpack("<2f", data[start:]))
EOF
  expect_values() {
    expect_exit 0 "values of $2" /usr/bin/python3 values.py "$2"
    expect_text "^$1\$" "values of $2"
  }

  expect_exit 0 "aggregate: krum" "$koinon" aggregate --rule 'krum { f: 1 }' \
    u?.safetensors -o krum.safetensors --report json
  mv out.txt report.json
  expect_exit 0 "aggregate: the report" /usr/bin/python3 -c '
import json, sys
report = json.load(open(sys.argv[1]))
assert report["rule"] == "krum", report
chosen = [u["worker"] for u in report["updates"] if u["selected"]]
assert chosen == ["u3"], report' report.json
  expect_values '1.0 2.5' krum.safetensors
  expect_exit 0 "aggregate: weights and a base" "$koinon" aggregate \
    --rule 'fedavg {}' --base base.safetensors --weights 3,1 \
    u1.safetensors u2.safetensors -o mean.safetensors
  expect_text 'mean.safetensors: step 1' "aggregate: weights and a base"
  expect_values '11.0 22.25' mean.safetensors
  local step
  for step in 1 2; do
    expect_exit 0 "aggregate: momentum" "$koinon" aggregate --state state-dir \
      --rule 'server_optimizer { fedavgm { momentum: 0.5 } }' \
      u1.safetensors -o momentum.safetensors
    expect_text "step $step\$" "aggregate: momentum"
  done
  expect_values '1.5 3.0' momentum.safetensors
  [[ "$(ls state-dir)" == 2.momentum.safetensors ]] ||
    fail "aggregate: the state folder has $(ls state-dir)"

  expect_exit 2 "aggregate: unknown rule" "$koinon" aggregate --rule 'krun {}' \
    u?.safetensors -o no.safetensors
  expect_text 'did you mean "krum"\?.*trimmed_mean' "aggregate: unknown rule"
  expect_exit 2 "aggregate: other tensors" "$koinon" aggregate \
    --rule 'fedavg {}' u1.safetensors other.safetensors -o no.safetensors
  expect_text 'other.safetensors: tensor 1 is v' "aggregate: other tensors"
  expect_exit 2 "aggregate: NaN" "$koinon" aggregate --rule 'fedavg {}' \
    u1.safetensors nan.safetensors -o no.safetensors
  expect_text 'update from worker nan: w\[1\] is NaN' "aggregate: NaN"
  expect_exit 1 "aggregate: too few" "$koinon" aggregate --rule 'krum { f: 1 }' \
    u1.safetensors u2.safetensors -o no.safetensors
  expect_exit 2 "aggregate: over an input" "$koinon" aggregate \
    --rule 'fedavg {}' u1.safetensors -o ./u1.safetensors
  expect_values '1.0 2.0' u1.safetensors
  [[ -e no.safetensors ]] && fail "aggregate: a failed one has written"
  return 0
}

federation_over_tls
exit_codes
aggregate_by_hand
finish
