"""Faults between the daemon and those who listen: stuck, slow, many, gone and back; garbage and floods."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import zmq

from tests.faults.card import hydrophone, stop_all
from tests.faults.catalogue import fault, promise
from tests.faults.ear import Account, Ear
from tests.faults.hostile import GREETING, garbage, ready, throw_many, zmtp
from tests.faults.sea import OCEAN, of_file, recording
from tests.faults.security import Keys, free_port
from tests.faults.vessel import ROOT, Daemon, wait_for


@fault(24, "live subscriber stuck for 40 s (SIGSTOP), with large records and a short queue",
       "the others lose nothing, memory stays bounded, the stuck one counts what it lost")  # fmt: skip
def stuck(folder: Path) -> str:
    settings = {"publish.hwm": 20, "publish.spectrogram": True, "window.hop_s": 0.25}
    with hydrophone(folder, settings) as (server, daemon, ear):
        out = (folder / "stuck.txt").open("w+")
        script = [sys.executable, "-u", str(ROOT / "docs" / "wire" / "subscriber.py"), daemon.endpoint]
        other = subprocess.Popen(script, stdout=out)
        try:
            wait_for(lambda: "window/" in Path(out.name).read_text(), 30, "a record at the other subscriber")
            rss = daemon.footprint[0]
            other.send_signal(signal.SIGSTOP)
            time.sleep(40)
            grown = daemon.footprint[0] - rss
            other.send_signal(signal.SIGCONT)
            wait_for(lambda: re.search(r"lost=[1-9]", Path(out.name).read_text()), 60, "a loss counted by the other")
            stop_all(server, ear, daemon)
            account = ear.account()
        finally:
            other.kill()
            other.wait()
            out.close()
        lost = max(int(n) for n in re.findall(r"lost=(\d+)", Path(out.name).read_text()))
    promise(grown < 20.0, f"memory grew by {grown:.0f} MB")
    return f"the stuck one counted {lost} lost; memory {grown:+.1f} MB; the other one: 0 lost, {account}"


@fault(76, "replay of a file with a subscriber that never reads, stall timeout 3 s",
       "the replay waits 3 s, then goes on; the stall is counted; the others lose nothing")  # fmt: skip
def stuck_in_replay(folder: Path) -> str:
    settings = of_file(recording(120.0)) | {
        "publish.hwm": 20, "publish.stall_timeout_s": 3.0, "publish.spectrogram": True, "window.hop_s": 0.25,
    }  # fmt: skip
    with Daemon(folder, settings) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("window")
        context = zmq.Context()
        dead = context.socket(zmq.SUB)  # connected, and never read
        dead.setsockopt(zmq.RCVHWM, 1)
        dead.setsockopt(zmq.RCVBUF, 4096)
        dead.subscribe(b"")
        dead.connect(daemon.endpoint)
        ear.await_end(120)
        context.destroy(linger=0)
        code = daemon.wait(60)
        account = ear.account()
        n_stalls = ear.of("heartbeat")[-1]["n_stalls"]
    promise(code == 0 and n_stalls >= 1, f"exit code {code}, {n_stalls} stalls")
    return f"{n_stalls} stalls counted, replay ended with 0; the other one: 0 lost, {account}"


@fault(57, "100 subscribers at once", "each gets every record, nothing lost")
def hundred(folder: Path) -> str:
    with Daemon(folder, of_file(recording(120.0)) | {"source.realtime": True, "window.hop_s": 0.25}) as daemon:
        context, poller = zmq.Context(), zmq.Poller()
        sockets = [context.socket(zmq.SUB) for _ in range(100)]
        for s in sockets:
            s.subscribe(b"window/")
            poller.register(s, zmq.POLLIN)
            s.connect(daemon.endpoint)
        with Ear(daemon.endpoint) as ear:
            seen: dict[zmq.Socket[bytes], list[int]] = {s: [] for s in sockets}
            while daemon.alive() or poller.poll(0):
                for s, _ in poller.poll(200):
                    seen[s].append(struct.unpack("<Q", s.recv_multipart()[-1])[0])
            ear.await_end()
            account = ear.account()
        context.destroy(linger=0)
    n = account.n_slots
    whole = sum(numbers == list(range(numbers[0], n)) for numbers in seen.values() if numbers)
    n_late = sum(numbers[0] > 0 for numbers in seen.values() if numbers)
    promise(whole == 100, f"{whole} of 100 got all records from their first to the last")
    return f"100 of 100 got each record ({n}; {n_late} came after the first); {account}"


@fault(26, "publisher killed (SIGKILL) and started again at the same endpoint",
       "subscribers are back by themselves, told apart from loss; the socket left behind is no obstacle")  # fmt: skip
def restarted(folder: Path) -> str:
    with Ear(f"ipc://{folder}/tonald.ipc") as ear:
        with Daemon(folder, OCEAN) as daemon:
            ear.await_some("window", 3)
            daemon.end(signal.SIGKILL)
        first = ear.of("window")[0]["publisher"]
        began = time.monotonic()
        with Daemon(folder, OCEAN, name="tonald") as daemon:
            ear.await_some("window", test=lambda b: b["publisher"] != first)
            back_s = time.monotonic() - began
            daemon.end()
            ear.await_end()
        account = ear.account(whole=False)
    return f"next window {back_s:.1f} s after the restart, 0 counted as lost; {account}"


@contextlib.contextmanager
def _besieged(folder: Path) -> Iterator[tuple[list[tuple[str, int] | str], Daemon, Ear]]:
    """A daemon with every kind of socket, and a friend who listens with a key."""
    keys = Keys(folder)
    friend = keys.client("bridge")
    plain = free_port()
    settings = keys.settings | {
        "publish.endpoints": [f"ipc://{folder}/tonald.ipc", f"tcp://127.0.0.1:{plain}", f"tcp://0.0.0.0:{keys.port}"],
    }  # fmt: skip
    with Daemon(folder, settings) as daemon, Ear(keys.endpoint, keys=friend) as ear:
        ear.await_some("window", 2)
        yield [("127.0.0.1", plain), ("127.0.0.1", keys.port), f"{folder}/tonald.ipc"], daemon, ear


def _survived(daemon: Daemon, ear: Ear, before: tuple[float, int, int]) -> tuple[Account, str]:
    n = len(ear.of("window"))
    ear.await_some("window", n + 2)
    wait_for(lambda: daemon.footprint[1] <= before[1] + 5, 30, f"files back from {daemon.footprint[1]} to {before[1]}")
    after = daemon.footprint
    promise(after[0] < before[0] + 30.0, f"memory {before[0]:.0f} to {after[0]:.0f} MB")
    daemon.end()
    ear.await_end()
    account = ear.account(from_start=False)
    return account, f"RSS {before[0]:.0f} to {after[0]:.0f} MB, files {before[1]} to {after[1]}, threads {after[2]}"


@fault(27, "3 x 3000 connections of malformed ZMTP and CURVE (mutated greetings, commands, lengths), some half open",
       "connections dropped, the friend with a key loses nothing, no leak")  # fmt: skip
def malformed(folder: Path) -> str:
    with _besieged(folder) as (addresses, daemon, ear):
        before = daemon.footprint
        n = throw_many(addresses, 3000, zmtp, 27)
        account, words = _survived(daemon, ear, before)
    return f"{n} connections, {words}; {account}"


@fault(59, "garbage bytes on every socket (ipc, tcp, tcp with keys), 10 000 connections on each",
       "connections dropped, the friend with a key loses nothing, no leak")  # fmt: skip
def garbage_bytes(folder: Path) -> str:
    with _besieged(folder) as (addresses, daemon, ear):
        before = daemon.footprint
        n = throw_many(addresses, 10_000, garbage, 59)
        account, words = _survived(daemon, ear, before)
    return f"{n} connections, {words}; {account}"


@fault(28, "flood: 1000 idle connections with a limit of 256 files, then twice 100 000 subscriptions by one peer",
       "the friend is served on; idle peers are hung up on; a second flood needs no more memory")  # fmt: skip
def flood(folder: Path) -> str:
    import resource

    port = free_port()
    settings = OCEAN | {"publish.endpoints": [f"ipc://{folder}/tonald.ipc", f"tcp://127.0.0.1:{port}"]}
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))  # noqa: E731
    with Daemon(folder, settings, before=limit) as daemon, Ear(f"ipc://{folder}/tonald.ipc") as ear:
        ear.await_some("window", 2)
        before = daemon.footprint
        idle = [socket.socket() for _ in range(1000)]
        n_in = 0
        for s in idle:
            s.settimeout(0.2)
            with contextlib.suppress(OSError):
                s.connect(("127.0.0.1", port))
                n_in += 1
        n = len(ear.of("window"))
        ear.await_some("window", n + 3)
        files = daemon.footprint[1]
        for s in idle:
            s.close()
        wait_for(lambda: daemon.footprint[1] <= before[1] + 5, 30, "files given back")
        tops = [_subscribe_much(port, daemon, ear) for _ in range(2)]
        wait_for(lambda: daemon.footprint[1] <= before[1] + 5, 30, "files given back")
        daemon.end()
        ear.await_end()
        account = ear.account()
    promise(tops[1] < 1.15 * tops[0], f"memory {before[0]:.0f} MB, {tops[0]:.0f} in the first flood, {tops[1]:.0f}")
    return (
        f"{n_in} connected, at most {files} files; memory {before[0]:.0f} MB, in the first flood {tops[0]:.0f}, in the "
        f"second {tops[1]:.0f} (libzmq has no limit for what a peer of this machine may ask for); {account}"
    )


def _subscribe_much(port: int, daemon: Daemon, ear: Ear) -> float:
    """MB after a peer asked for 100 000 subscriptions, unless it is hung up on before."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        s.sendall(GREETING + ready(b"SUB"))
        rng = random.Random(28)
        for _ in range(1000):
            s.sendall(b"".join(b"\x00\x15\x01" + rng.randbytes(20) for _ in range(100)))
        n = len(ear.of("window"))
        ear.await_some("window", n + 3)
    return daemon.footprint[0]


@fault(64, "message of 1 GB announced by a peer, 64 MB of it sent", "hung up on; nothing kept; the others served")
def gigabyte(folder: Path) -> str:
    with _besieged(folder) as (addresses, daemon, ear):
        before = daemon.footprint
        sent, peak = 0, before[0]
        with socket.create_connection(addresses[0], timeout=5) as s:
            s.sendall(GREETING + ready(b"SUB") + b"\x02" + struct.pack(">Q", 1 << 30))
            with contextlib.suppress(OSError):
                for _ in range(64):
                    s.sendall(bytes(1 << 20))
                    sent += 1
                    peak = max(peak, daemon.footprint[0])
        account, words = _survived(daemon, ear, before)
    promise(peak < before[0] + 20, f"memory rose to {peak:.0f} MB")
    return f"hung up after {sent} MB, at most {peak - before[0]:+.1f} MB held; {words}; {account}"


@fault(30, "port taken at the start; free at the next", "exit 71, address and cure named, never READY; the next serves")
def port_taken(folder: Path) -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with Daemon(folder, OCEAN | {"publish.endpoints": [endpoint]}) as daemon:
            code = daemon.wait(60)
            promise(code == 71 and endpoint in daemon.last_line, f"exit code {code}, '{daemon.last_line}'")
            said = daemon.last_line
    with Daemon(folder / "b", OCEAN | {"publish.endpoints": [endpoint]}) as daemon, Ear(endpoint) as ear:
        ear.await_some("window")
    return f"exit 71, '{said[-90:]}'; then served there"


@fault(77, "publisher's thread dies in flight", "the process ends non-zero and says so; nothing goes on unheard")
def publisher_dies(folder: Path) -> str:
    trigger = folder / "die"
    command = (sys.executable, "-m", "tests.faults.sabotage", "publisher", str(trigger))
    with Daemon(folder, OCEAN, command=command) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("window", 2)
        trigger.touch()
        began = time.monotonic()
        code = daemon.wait(30)
        took_s = time.monotonic() - began
        promise(code == 71, f"exit code {code}")
    return f"exit 71 after {took_s:.1f} s, '{daemon.last_line[-90:]}'"
