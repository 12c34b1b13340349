#!/bin/bash
# A node with a good certificate that serves a version with a bit wrong in one of
# a hundred leaves, between a real coordinator and real workers: the rounds go on,
# all have the same bytes in the end, whoever was lied to says who it was, and
# nothing that is wrong is kept.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=../e2e/programs_lib.sh
source "$TEST_SRCDIR/koinon/tests/e2e/programs_lib.sh"
trainer="$bin/tests/large/poke_trainer.py"
liar="$bin/tests/chaos/lying_peer"
seed="${KOINON_TEST_SEED:-1}"
echo "seed $seed"

# Versions of 32 MiB: 256 pieces of 8 leaves, about 20 of them wrong.
cat >job.txtpb <<'END'
name: "large"
dataset: "records"
model {
  input_shape: 2048
  layers { layers { dense { units: 4096 no_bias: true } } }
}
training { external_trainer: "poke" }
cohort { target: 3 minimum: 3 }
evaluation { every_rounds: -1 }
rounds: 100000
seed: 1
END
expect_exit 0 "certs" "$koinon" certs certs --host 127.0.0.1 \
  --worker w1 --worker w2 --worker w3 --worker liar
start_daemon coordinator.log "$coordinator" --listen 127.0.0.1:0 \
  --state-dir state --tls-cert certs/server.pem --tls-key certs/server.key \
  --tls-ca certs/ca.pem --delta-min-bytes 0 || exit 1
leader="$started"
export KOINON_CERTS=certs KOINON_COORDINATOR
KOINON_COORDINATOR="$(address_in port)"
expect_exit 0 "submit" "$koinon" submit job.txtpb

# It has the first version before anybody else, so that whoever wants it is given
# little by the coordinator; the later ones it fetches beside the others.
"$liar" --coordinator "$KOINON_COORDINATOR" --state-dir liar --job large \
  --tls-cert certs/worker-liar.pem --tls-key certs/worker-liar.key \
  --tls-ca certs/ca.pem --seed "$seed" >liar.log 2>&1 &
lying=$!
await_text 'has a version version=0' liar.log "$lying" ||
  { fail "no liar: $(cat liar.log)"; exit 1; }
node="$(sed -n 's/.* lying node=\([^ ]*\).*/\1/p' liar.log)"

workers=()
for name in w1 w2 w3; do
  "$worker" --name "$name" --coordinator "$KOINON_COORDINATOR" \
    --state-dir "$name" --peer-listen 127.0.0.1:0 --threads 1 \
    --tls-cert "certs/worker-$name.pem" --tls-key "certs/worker-$name.key" \
    --tls-ca certs/ca.pem \
    --dataset 'name: "records" source { external { examples: 10 } }' \
    --external-trainer "poke=/usr/bin/python3 $trainer" >"$name.log" 2>&1 &
  workers+=("$!")
done

# lied_to: how many workers have found out.
lied_to() {
  cat w[123].log | grep -c 'is banned'
}
# everybody PATTERN: whether each worker's log has it.
everybody() {
  [[ "$(grep -El -- "$1" w[123].log | wc -l)" == 3 ]]
}
alive() {
  local pid
  for pid in "$leader" "${workers[@]}" "$lying"; do
    kill -0 "$pid" 2>/dev/null && continue
    fail "somebody is gone"
    tail -n 3 ./*.log
    exit 1
  done
}

# The coordinator falls silent once all have begun: then only the liar has what
# they still lack.
until [[ "$(find w[123]/models -name '*.partial' 2>/dev/null | wc -l)" == 3 ]] ||
  everybody 'model fetched'; do
  alive
  sleep 0.005
done
kill -STOP "$leader"
# Not for ever: who had not joined yet finds nobody meanwhile.
for ((i = 0; i < 600; ++i)); do
  (($(lied_to) > 0)) && break
  everybody 'model fetched' && break
  alive
  sleep 0.05
done
echo "lied to while the coordinator was silent: $(lied_to) times"
kill -CONT "$leader"
# If all had everything by then, which takes a machine that is very slow at the
# wrong moment, later rounds decide it.
until everybody 'model fetched' && (($(lied_to) > 0)); do
  alive
  sleep 0.05
done
# The round that is open is the last.
expect_exit 0 "pause" "$koinon" pause large
await_last_round coordinator.log "$leader" || exit 1
# --- Who lied is named, and nobody else ---
grep -h 'is banned' w[123].log | tee banned.txt
expect_text "is banned .*node=$node .* has another hash" "the logs" banned.txt
if grep -v "node=$node " banned.txt; then fail "others are named too"; fi
wasted=0
for name in w1 w2 w3; do
  address="$(sed -n 's/.*serving model versions.* address=\([^ ]*\).*/\1/p' "$name.log")"
  expect_exit 0 "status" "$koinon" dht status --bootstrap "$address"
  expect_text 'model bytes .* wasted' "status"
  grep -Eq ' 0 B wasted' out.txt || wasted=$((wasted + 1))
  lies="$(grep -c 'is banned' "$name.log")"
  ((lies > 0)) || continue
  expect_text "^ +wrong_leaf: $lies\$" "status of $name"
  expect_text "^ +wrong_leaf of $node: $lies\$" "status of $name"
done
# What came of a wrong leaf's piece was thrown away, and is counted.
((wasted > 0)) || fail "nobody has thrown anything away"

# --- Nothing is kept that is not what its name says, and all have the same ---
expect_exit 0 "models" "$koinon" models large --json
/usr/bin/python3 -c '
import base64, json
for model in json.load(open("out.txt"))["models"]:
    print(model["version"], base64.b64decode(model["digest"]).hex())' >published.txt
# The last one came of the round that was open; nobody has fetched it.
read -r base digest <<<"$(tail -n 2 published.txt | head -n 1)"
echo "after version $base: $(grep 'lied ' liar.log | tail -n 1)"
for name in w1 w2 w3; do
  [[ -f "$name/models/$digest.safetensors" ]] ||
    fail "$name has not got version $base, $digest: $(ls "$name/models")"
  for file in "$name"/models/*; do
    case "$file" in
      *.safetensors)
        kept="$(sha256sum "$file" | cut -d' ' -f1)"
        [[ "$(basename "$file" .safetensors)" == "$kept" ]] ||
          fail "$file has digest $kept"
        grep -q " $kept\$" published.txt || fail "$file is no version"
        ;;
      *.partial*) fail "$file was left" ;;
    esac
  done
done

kill -KILL "$lying"
wait "$lying" 2>/dev/null
for pid in "${workers[@]}" "$leader"; do
  end "$pid" TERM || fail "an exit code after SIGTERM"
done
finish
