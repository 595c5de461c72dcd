#!/usr/bin/env python3
"""How exactly a rate is kept: scripts/rates.py [--events 100000] [--rate 200] [--redis NODES].

Publishes events to one subscription with a rate, stamps every request at a receiver of its own, and
prints the most requests within any second and how long the backlog took beside the ideal. With
--redis it starts redis-server, `pregon control` and so many nodes, otherwise `pregon standalone`.
--kill ends a node with SIGKILL every ten seconds and starts it again. Everything is on loopback, in a
temporary directory. PREGON_BIN and PREGON_BENCH_BIN are the binaries; without them releases must be
built. Needs grpcurl. Fails where an event is missing, or where a second had more than a twentieth
above the rate.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
PREGON = os.environ.get("PREGON_BIN", str(RELEASE / "pregon"))
BENCH = os.environ.get("PREGON_BENCH_BIN", str(RELEASE / "pregon-bench"))
PATH = f"{os.environ['PATH']}:{ROOT / '.tools' / 'bin'}"
ADDRESS = re.compile(rb"127\.0\.0\.1:[0-9]+")
LOOPBACK = ["--allow-http", "--allow-egress", "127.0.0.0/8"]


class Receiver:
    """Answers 200 and keeps when each request came, and the ids of events."""

    def __init__(self):
        self.at, self.ids = [], set()

    async def serve(self):
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        return server.sockets[0].getsockname()[1]

    async def answer(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.at.append(time.monotonic())
                lines = dict(
                    line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:] if b":" in line
                )
                self.ids.add(lines[b"webhook-id"].strip())
                await reader.readexactly(int(lines.get(b"content-length", b"0")))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()


class Deployment:
    """The processes; they end with it."""

    def __init__(self, directory, redis):
        self.directory, self.processes = directory, {}
        if redis == 0:
            data = ["--data-dir", f"{directory}/data"]
            args = [PREGON, "standalone", "--listen", "127.0.0.1:0", *data, *LOOPBACK]
            self.control = self.start("standalone", args)
            self.events = [self.control]
            return
        port = self.redis()
        store = ["--redis-url", f"redis://127.0.0.1:{port}/0", "--durability", "memory"]
        key = Path(directory, "key")
        key.write_text("42" * 32)
        subprocess.run([PREGON, "init", *store], check=True, capture_output=True)
        rest = [*store, *LOOPBACK, "--master-key-file", str(key), "--listen", "127.0.0.1:0"]
        self.control = self.start("control", [PREGON, "control", *rest])
        node = [PREGON, "dataplane", *rest, "--node-id"]
        self.events = [self.start(f"n{n}", [*node, f"n{n}"]) for n in range(redis)]

    def start(self, name, args):
        log = Path(self.directory, f"{name}.log")
        with log.open("wb") as output:
            process = subprocess.Popen(args, stdout=output, stderr=subprocess.STDOUT)
        self.processes[name] = (process, args)
        for _ in range(300):
            for line in log.read_bytes().split(b"\n"):
                if b"listening" in line and ADDRESS.search(line):
                    return ADDRESS.search(line).group().decode()
            time.sleep(0.1)
        sys.exit(f"{name} does not listen: {log.read_text()}")

    def redis(self):
        for port in range(20000 + os.getpid() % 10000, 65000):
            args = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
            process = subprocess.Popen(
                [*args, "--dir", self.directory], stdout=subprocess.DEVNULL
            )
            time.sleep(0.5)
            if process.poll() is None:
                self.processes["redis"] = (process, args)
                return port
        sys.exit("redis-server does not start")

    def kill(self, name):
        process, args = self.processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.start(name, args)

    def end(self):
        for process, _ in reversed(self.processes.values()):
            process.terminate()
            process.wait()

    def call(self, method, request):
        args = ["grpcurl", "-plaintext", "-d", json.dumps(request), self.control]
        env = {**os.environ, "PATH": PATH}
        answer = subprocess.run([*args, f"pregon.v1.{method}"], env=env, capture_output=True)
        if answer.returncode != 0:
            sys.exit(f"{method}: {answer.stderr.decode()}")
        return json.loads(answer.stdout)


async def measure(deployment, receiver, args):
    port = await receiver.serve()
    deployment.call("EventTypeService/CreateEventType", {"event_type_id": "bench.event"})
    deployment.call("TenantService/CreateTenant", {"tenant_id": "bench-0", "tenant": {}})
    subscription = {
        "url": f"http://127.0.0.1:{port}/", "event_types": ["bench.event"],
        "rate_limit": {"per_second": args.rate},
    }
    request = {"parent": "tenants/bench-0", "subscription": subscription}
    answer = deployment.call("SubscriptionService/CreateSubscription", request)
    wait = {"revision": answer["revision"], "timeout": "30s"}
    deployment.call("NodeService/WaitForRevision", wait)
    began = time.monotonic()
    load = await asyncio.create_subprocess_exec(
        BENCH, "load", "--target", deployment.events[0], "--tenant", "tenants/bench-0",
        "--events", str(args.events), "--batch", "100", "--concurrency", "4",
        "--seconds", "600", "--size", "500", stdout=asyncio.subprocess.DEVNULL,
    )
    killed, nodes = began, [name for name in deployment.processes if name[0] == "n"]
    limit = 2 * args.events / args.rate + 60
    while len(receiver.ids) < args.events and time.monotonic() - began < limit:
        await asyncio.sleep(0.05)
        if args.kill and nodes and time.monotonic() - killed > 10 and load.returncode is not None:
            killed = time.monotonic()
            nodes = nodes[1:] + nodes[:1]
            await asyncio.to_thread(deployment.kill, nodes[0])
    if await load.wait() != 0:
        sys.exit(f"the load ended with {load.returncode}")
    return began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--redis", type=int, default=0, metavar="NODES")
    parser.add_argument("--kill", action="store_true")
    args = parser.parse_args()
    receiver = Receiver()
    with tempfile.TemporaryDirectory() as directory:
        deployment = Deployment(directory, args.redis)
        try:
            began = asyncio.run(measure(deployment, receiver, args))
        finally:
            deployment.end()
    at, first, most = receiver.at, 0, 0
    for last, moment in enumerate(at):
        while moment - at[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    took, ideal = at[-1] - began, args.events / args.rate
    missing = args.events - len(receiver.ids)
    print(f"{len(at)} requests for {args.events} events, {missing} missing")
    print(f"most within a second: {most} at {args.rate} a second")
    print(f"took {took:.1f} s, {took / ideal:.3f} of the ideal {ideal:.1f} s")
    sys.exit(0 if missing == 0 and most <= args.rate * 1.05 else 1)


if __name__ == "__main__":
    main()
