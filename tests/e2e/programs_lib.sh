# shellcheck shell=bash
# shellcheck disable=SC2034  # used by those that source it
# What the tests of whole programs share; to be sourced first. It knows where the
# programs are, and goes to the test's own folder. What is expected and did not
# come is told and counted; a test ends with finish, which says what was counted.

bin="$TEST_SRCDIR/koinon"
koinon="$bin/tools/koinon"
coordinator="$bin/coordinator/koinon-coordinator"
worker="$bin/worker/koinon-worker"
dht="$bin/dht/koinon-dht"
cd "$TEST_TMPDIR" || exit 1

failures=0
fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# What the test has started and not ended by its own end, whatever that is: told
# to end, for it may have processes of its own; woken, for it may be stopped; and
# killed if it is there after some seconds. Only children that still run: the
# number of one that has ended may be somebody else's.
stop_started() {
  local pid i
  [[ "$BASHPID" == "$$" ]] || return  # a child of ours that is no program yet
  for pid in $(jobs -pr); do
    kill -TERM "$pid" 2>/dev/null
    kill -CONT "$pid" 2>/dev/null
  done
  for ((i = 0; i < 50; ++i)); do
    [[ -z "$(jobs -pr)" ]] && return
    sleep 0.1
  done
  for pid in $(jobs -pr); do kill -KILL "$pid" 2>/dev/null; done
  wait 2>/dev/null
}
# One that sets another is to call it there.
trap stop_started EXIT

finish() {
  [[ "$failures" == 0 ]] || return 1
  echo "PASS"
}

# expect_exit CODE WHAT COMMAND...: its output goes to out.txt.
expect_exit() {
  local expected="$1" what="$2" code=0
  shift 2
  "$@" >out.txt 2>&1 </dev/null || code=$?
  [[ "$code" == "$expected" ]] && return
  fail "$what: exit code $code, expected $expected"
  cat out.txt >&2
}

# expect_text PATTERN WHAT [FILE]
expect_text() {
  grep -Eq -- "$1" "${3:-out.txt}" && return
  fail "$2: no '$1' in ${3:-out.txt}"
  cat "${3:-out.txt}" >&2
}

# await_file FILE PID: until the process has written it; fails if it ends before.
await_file() {
  while kill -0 "$2" 2>/dev/null; do
    [[ -s "$1" ]] && return
    sleep 0.01
  done
  [[ -s "$1" ]]
}

# await_text PATTERN FILE PID: until the process has written it; fails if it ends
# before.
await_text() {
  while kill -0 "$3" 2>/dev/null; do
    grep -Eq -- "$1" "$2" 2>/dev/null && return
    sleep 0.05
  done
  grep -Eq -- "$1" "$2" 2>/dev/null
}

# await_last_round LOG PID: until a coordinator whose only job is paused has
# published the round that it opened last; fails, and says why, if it does not.
await_last_round() {
  local opened="" i
  for ((i = 0; i < 1200; ++i)); do
    opened="$(sed -En 's/.* round opened .* (round=[0-9]+ ).*/\1/p' "$1" | tail -n 1)"
    [[ -n "$opened" ]] && grep -q "round published .* $opened" "$1" && return
    if ! kill -0 "$2" 2>/dev/null || grep -q ' job finished ' "$1"; then break; fi
    sleep 0.1
  done
  fail "the round opened last (${opened:-none}) is not published: $(tail -n 5 "$1")"
  return 1
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

# end PID SIGNAL...: sends the signals; the exit code of a process of ours.
end() {
  local pid="$1"
  shift
  local signal
  for signal in "$@"; do kill "-$signal" "$pid"; done
  wait "$pid"
}

# address_in FILE [HOST]: of a daemon that has written its port there.
address_in() {
  echo "${2:-127.0.0.1}:$(tr -d '[:space:]' <"$1")"
}

# start_daemon LOG COMMAND...: a daemon that writes its port to the file `port`.
# Sets `started` (its process) once it serves; else shows its log and fails.
start_daemon() {
  local log="$1"
  shift
  rm -f port
  "$@" --port-file port >>"$log" 2>&1 &
  started=$!
  await_file port "$started" && return
  cat "$log" >&2
  return 1
}

# 60 points in two dimensions, of three classes that lie apart.
make_table() {
  echo "x,y,label"
  local i
  for ((i = 0; i < 60; ++i)); do
    echo "$((i % 3 == 0 ? 2 : 0)).$((i % 10)),$((i % 3 == 1 ? 2 : 0)).5,$((i % 3))"
  done
}
table='name: "table" source { csv { path: "table.csv" label: "label" } }'
