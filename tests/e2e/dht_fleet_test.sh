#!/bin/bash
# 64 koinon-dht processes, or KOINON_FLEET_NODES of them, over mutual TLS, each with
# its own state: all come to know each other, keep records and find them through
# any of them. Half are killed at once, and nothing is lost; those that come back
# have their records and are taken in again. Says what memory an idle node of such
# a fleet takes.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=programs_lib.sh
source "$TEST_SRCDIR/koinon/tests/e2e/programs_lib.sh"

nodes="${KOINON_FLEET_NODES:-64}"
values=12
# More than keep a record; one half dies.
if [[ ! "$nodes" =~ ^[1-9][0-9]{1,3}$ ]] || ((nodes < 24 || nodes % 2 == 1)); then
  fail "KOINON_FLEET_NODES: an even number from 24 up is expected, found '$nodes'"
  exit 1
fi
echo "$nodes nodes"
pids=()
addresses=()
export KOINON_CERTS=certs

# start_node I FLAG...: in the background, where it was before if it was.
start_node() {
  local i="$1"
  shift
  rm -f "port-$i"
  "$dht" --listen "${addresses[i]:-127.0.0.1:0}" --state-dir "state-$i" \
    --tls-cert "certs/node-n$i.pem" --tls-key "certs/node-n$i.key" \
    --tls-ca certs/ca.pem --port-file "port-$i" "$@" >>"n$i.log" 2>&1 &
  pids[i]=$!
}

# await_node I: until it serves; sets its address.
await_node() {
  if ! await_file "port-$1" "${pids[$1]}"; then
    fail "node $1 did not start: $(tail -n 3 "n$1.log")"
    return 1
  fi
  addresses[$1]="$(address_in "port-$1")"
}

# ask_dht I COMMAND...: `koinon dht` through that node; its output to stdout.
ask_dht() {
  local i="$1" command="$2"
  shift 2
  "$koinon" dht "$command" --bootstrap "${addresses[i]}" "$@" 2>&1 </dev/null
}

# status_of FIELD I: a number of `koinon dht status`; empty if it says none.
status_of() {
  ask_dht "$2" status | sed -En "s/^$1 +([0-9]+) .*/\1/p"
}

# await_known I COUNT: until so many others are in its table. The test's own limit
# ends it if they never are.
await_known() {
  local known
  while kill -0 "${pids[$1]}" 2>/dev/null; do
    known="$(status_of knows "$1")"
    [[ -n "$known" ]] && ((known >= $2)) && return
    sleep 0.5
  done
  fail "node $1 is gone: $(tail -n 3 "n$1.log")"
}

# get_all SALT: each value through another node of those in `alive`.
get_all() {
  local v via
  for ((v = 0; v < values; ++v)); do
    via="${alive[($1 + 5 * v) % ${#alive[@]}]}"
    rm -f got.txt
    ask_dht "$via" get "$(cat "key-$v")" -o got.txt >out.txt ||
      fail "get of value $v through node $via: $(cat out.txt)"
    cmp -s "value-$v" got.txt || fail "value $v through node $via differs"
  done
}

# --- All join ---
named=()
for ((i = 0; i < nodes; ++i)); do named+=(--node "n$i"); done
expect_exit 0 "certs" "$koinon" certs certs --host 127.0.0.1 "${named[@]}"
start_node 0
await_node 0 || exit 1
for ((i = 1; i < nodes; ++i)); do start_node "$i" --bootstrap "${addresses[0]}"; done
for ((i = 1; i < nodes; ++i)); do await_node "$i"; done
finish >/dev/null || exit 1
for ((i = 0; i < nodes; ++i)); do await_known "$i" $((nodes - 1)); done
echo "joined after ${SECONDS} s: each of $nodes nodes knows all others"

for pid in "${pids[@]}"; do
  awk '$1 == "VmRSS:" { print $2 }' "/proc/$pid/status"
done | sort -n >rss.txt
awk -v n="$nodes" '{ sum += $1; all[NR] = $1 }
  END { printf "resident memory of a node in a fleet of %d: %.1f MiB least, " \
    "%.1f median, %.1f most\n", n, all[1] / 1024, all[int((NR + 1) / 2)] / 1024,
    all[NR] / 1024 }' rss.txt

# --- Each value is put through one node and found through others ---
alive=()
for ((i = 0; i < nodes; ++i)); do alive+=("$i"); done
for ((v = 0; v < values; ++v)); do
  echo "value $v" >"value-$v"
  ask_dht $((v * 3 % nodes)) put "value-$v" >out.txt || fail "put $v: $(cat out.txt)"
  expect_text '^kept +by (1[1-9]|20) of [0-9]+ nodes' "put $v"
  sed -n 's/^key *//p' out.txt >"key-$v"
done
get_all 1
ask_dht 17 lookup "$(cat key-0)" >out.txt || fail "lookup: $(cat out.txt)"
[[ "$(sed '1,/^closest to/d' out.txt | grep -c ' 127\.0\.0\.1:')" == 20 ]] ||
  fail "the closest nodes to a key are not 20: $(cat out.txt)"
expect_text ' answered' "lookup"

# --- Half are killed ---
alive=()
for ((i = 0; i < nodes; ++i)); do
  if ((i % 2 == 0)); then
    kill -KILL "${pids[i]}"
    wait "${pids[i]}" 2>/dev/null
  else
    alive+=("$i")
  fi
done
get_all 2
echo "after ${SECONDS} s: half of the nodes killed, nothing lost"

# --- Some of them come back ---
# One where nobody looks for it: what it has is what it kept.
kept="$(find state-0/records -name '*.record' | wc -l)"
((kept > 0)) || fail "node 0 has kept nothing"
was="${addresses[0]}"
addresses[0]=
start_node 0
await_node 0
has="$(status_of keeps 0)"
[[ "$has" == "$kept" ]] || fail "node 0 has $has records, $kept on its disk"
kill -KILL "${pids[0]}"
wait "${pids[0]}" 2>/dev/null
addresses[0]="$was"
back=(0 2 4 6)
for i in "${back[@]}"; do start_node "$i" --bootstrap "${addresses[1]}"; done
for i in "${back[@]}"; do
  await_node "$i"
  kept="$(find "state-$i/records" -name '*.record' | wc -l)"
  has="$(status_of keeps "$i")"
  ((has >= kept)) || fail "node $i has $has records, $kept on its disk"
  # Of those that survived and came back at most one does not know it yet.
  await_known "$i" $((nodes / 2))
done
# Who survived has them in its table again.
for i in "${back[@]}"; do
  for via in 1 $((nodes / 2 | 1)) $((nodes - 1)); do
    until ask_dht "$via" peers --json | grep -qF "\"${addresses[i]}\""; do
      kill -0 "${pids[via]}" 2>/dev/null || { fail "node $via is gone"; break; }
      kill -0 "${pids[i]}" 2>/dev/null || { fail "node $i is gone"; break; }
      sleep 0.2
    done
  done
done
alive+=("${back[@]}")
get_all 29
echo "after ${SECONDS} s: ${#back[@]} are back"

# --- And they stop when they are asked to ---
for i in "${alive[@]}"; do kill -TERM "${pids[i]}"; done
for i in "${alive[@]}"; do
  wait "${pids[i]}"
  code=$?
  [[ "$code" == 0 ]] || fail "node $i: exit code $code after SIGTERM"
done
finish
