#!/bin/bash
# Two "hosts", which are network namespaces that this test makes and joins by a
# pair of virtual interfaces: four ranks, two on each, whose leaders sum over
# TCP. Needs root and ip netns; says so and ends well where it has not got them.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=mpi_lib.sh
source "$TEST_SRCDIR/koinon/tests/e2e/mpi_lib.sh"

# Names of interfaces have at most 15 characters.
a="km$$a" b="km$$b"
clean_up() {
  stop_started
  ip netns del "$a" 2>/dev/null
  ip netns del "$b" 2>/dev/null
}
if ! ip netns add "$a" 2>skipped.txt; then
  echo "SKIPPED: no network namespaces here: $(cat skipped.txt)" >&2
  echo "SKIPPED: sites of several nodes are NOT tested" >&2
  exit 0
fi
trap clean_up EXIT
ip netns add "$b" && ip link add "$a" netns "$a" type veth peer name "$b" netns "$b" &&
  ip -n "$a" addr add 10.77.0.1/24 dev "$a" && ip -n "$b" addr add 10.77.0.2/24 dev "$b" &&
  ip -n "$a" link set "$a" up && ip -n "$b" link set "$b" up &&
  ip -n "$a" link set lo up && ip -n "$b" link set lo up || exit 1

# What mpirun starts its daemon on another host with, in place of ssh: it is
# given the host's name and a command.
cat >enter <<END
#!/bin/bash
case "\$1" in
  10.77.0.1) shift; exec ip netns exec $a unshare --uts sh -c "hostname host-a; \$*" ;;
  10.77.0.2) shift; exec ip netns exec $b unshare --uts sh -c "hostname host-b; \$*" ;;
esac
echo "enter: no host \$1" >&2
exit 1
END
chmod +x enter

# start_site LOG FLAG...: from host a, with both in the hostfile.
printf '10.77.0.1 slots=2\n10.77.0.2 slots=2\n' >hosts
start_site() {
  local log="$1"
  shift
  ip netns exec "$a" unshare --uts sh -c 'hostname 10.77.0.1; exec "$@"' - \
    mpirun --hostfile hosts -n 4 --map-by slot --bind-to none \
    --mca plm_rsh_agent "$PWD/enter" --mca btl self,vader,tcp \
    --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
    "$worker" --name site --coordinator "$address" --state-dir "$PWD/site" \
    --dataset "${table/table.csv/$PWD/table.csv}" --insecure --threads 1 "$@" \
    >"$log" 2>&1 </dev/null &
  site=$!
}
in_a() { ip netns exec "$a" "$@"; }
as_client() {
  in_a "$koinon" "$@" --coordinator "$address" --insecure </dev/null
}

make_table >table.csv
# Not by a function: the process would be a shell, and the coordinator its child.
start_coordinator 10.77.0.1 ip netns exec "$a" || exit 1
start_site site.log
make_job wide 2 'epochs: 3' >wide.txtpb
as_client submit wide.txtpb --watch >wide.out 2>&1 || fail "submit"
expect_text 'wide: succeeded after 2 rounds' "wide" wide.out
expect_text 'rank ready rank=3 ranks=4 node=1 nodes=2' "nodes" site.log
as_client rounds wide --detail >rounds.out 2>&1
expect_text 'ranks of site: 4 ranks on 2 nodes' "detail" rounds.out
kill -TERM "$site"
await_end "$site" 30 || fail "mpirun did not stop"

# A rank of the other host hangs: its own node's leader names it.
start_site hung.log --mpi-timeout 5
make_job hung 50 'steps: 3000' >hung.txtpb
as_client submit hung.txtpb >hung.out 2>&1 || fail "submit hung"
await_text 'training rank=3 job=hung' hung.log "$site" || fail "no training"
kill -STOP "$(pid_of 3 hung.log)"
if ! await_end "$site" 60; then
  fail "a hung rank of another host: mpirun still runs"
  kill -KILL "$site"
fi
expect_text 'rank=0 reason="rank 3 \(host host-b\) made no progress' "hung" hung.log

kill -TERM "$leader"
wait "$leader"
[[ "$failures" == 0 ]] || cat site.log hung.log >&2
finish
