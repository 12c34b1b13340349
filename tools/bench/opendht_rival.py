# What `koinon bench dht` asks of OpenDHT: the same operations on as many nodes
# in one process. Arguments: nodes, operations, value bytes, nodes to kill,
# askers. Prints "absent REASON", or "ready VERSION" and then a line of
# milliseconds for each part: put, get, get_after.
import importlib.metadata
import os
import random
import signal
import sys
import threading
import time

try:
    import opendht
except ImportError as error:
    print("absent", error)
    sys.exit(0)

nodes, operations, value_bytes, kill, askers = map(int, sys.argv[1:6])
WARM_UP = 200
rng = random.Random(1)


def key_of(i):
    return opendht.InfoHash.get("key %d" % i)


def value_of(i):
    return random.Random(i).randbytes(value_bytes)


def start(first_port, count):
    runners = []
    for port in range(first_port, first_port + count):
        config = opendht.DhtConfig()
        config.setRateLimit(-1, -1)
        runner = opendht.DhtRunner()
        runner.run(port=port, ipv4="127.0.0.1", config=config)
        if port != PORT:
            runner.bootstrap("127.0.0.1", str(PORT))
        runners.append(runner)
    return runners


# Those that are to die live in a process of their own, which is killed.
def start_doomed():
    parent = os.getpid()
    child = os.fork()
    if child != 0:
        return child
    os.close(1)
    runners = start(PORT + nodes - kill, kill)
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(0)


def start_all():
    runners = start(PORT, nodes - kill)
    # Until a record that the first one puts is found by the last.
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if runners[0].put(key_of(-1), opendht.Value(b"up")):
            if runners[-1].get(key_of(-1)):
                break
        time.sleep(0.2)
    time.sleep(5)
    return runners


def timed(function):
    started = time.monotonic()
    good = function()
    return (time.monotonic() - started) * 1000, good


def puts(runners, first, count):
    figures = []
    for i in range(first, first + count):
        runner = runners[rng.randrange(min(askers, len(runners)))]
        value = opendht.Value(value_of(i))
        ms, good = timed(lambda: runner.put(key_of(i), value))
        figures.append("%.4f%s" % (ms, "" if good else "!"))
    return figures


# Milliseconds until the value is there. The rest of its search is waited for
# too, but not measured.
def first(runner, i):
    found, done = threading.Event(), threading.Event()
    good = []

    def on_value(value):
        good.append(value.data == value_of(i))
        found.set()
        return False

    def on_done(ok, found_nodes):
        found.set()
        done.set()

    started = time.monotonic()
    runner.get(key_of(i), on_value, on_done)
    found.wait(60)
    ms = (time.monotonic() - started) * 1000
    done.wait(60)
    return ms, any(good)


def gets(runners, below, count):
    figures = []
    for _ in range(count):
        i = rng.randrange(below)
        runner = runners[rng.randrange(min(askers, len(runners)))]
        ms, good = first(runner, i)
        figures.append("%.4f%s" % (ms, "" if good else "!"))
    return figures


PORT = 20000 + random.SystemRandom().randrange(20000)
doomed = start_doomed() if kill > 0 else None
runners = start_all()
print("ready", importlib.metadata.version("opendht"), flush=True)
puts(runners, 0, WARM_UP)
gets(runners, WARM_UP, WARM_UP)
print("put", *puts(runners, WARM_UP, operations), flush=True)
stored = WARM_UP + operations
print("get", *gets(runners, stored, operations), flush=True)
if kill > 0:
    os.kill(doomed, signal.SIGKILL)
    os.waitpid(doomed, 0)
    print("get_after", *gets(runners, stored, operations), flush=True)
# Its threads would be waited for.
os._exit(0)
