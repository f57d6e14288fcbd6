"""Faults of the disk and of those who were away: full, read-only, failing, torn; gone and back for what was missed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.catalogue import NotRun, fault, promise
from tests.faults.ear import Ear
from tests.faults.sea import OCEAN, of_file, recording
from tests.faults.shim import Shim
from tests.faults.vessel import Daemon

JOURNALLED = ("signature", "gap")
N_KILLS = 200


def kept(state: Path, **more: Any) -> dict[str, Any]:
    """Settings with a journal, and many records."""
    return OCEAN | {"state_dir": str(state), "window.hop_s": 0.25, "journal.reserve_mb": 0.0} | more


def on_disk(state: Path) -> list[int]:
    """Numbers of all whole entries of the journal, in the order of its files."""
    from daemon.journal.entry import entries_of

    files = sorted((state / "journal").glob("*.tonald-journal"))
    return [entry.seq for path in files for _, entry, _ in entries_of(path.read_bytes())]


def heard(ear: Ear) -> list[int]:
    """Numbers of journalled records as they came."""
    found = [b["journal_seq"] for b in list(ear.bodies) if b["family"] in JOURNALLED]
    return [n for n in found if n is not None]


def _problem(ear: Ear, *, is_there: bool) -> str:
    """Until a heartbeat tells of a problem with the journal, or of none any more."""

    def told(b: dict[str, Any]) -> bool:
        return b["journal"] is not None and (b["journal"]["problem"] is not None) == is_there

    n = len(ear.of("heartbeat"))
    ear.await_some("heartbeat", n + 1, timeout_s=30)
    return str(ear.await_some("heartbeat", timeout_s=40, test=told)[-1]["journal"]["problem"])


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A real file system of its own."""
    if os.geteuid() != 0:
        raise NotRun("needs root, to mount a tmpfs")
    path = folder / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], check=False)
    if done.returncode:
        raise NotRun("a tmpfs cannot be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


def _interrupted(disk: Path, folder: Path, begin, end, env: dict[str, str] | None = None) -> str:  # noqa: ANN001
    """The disk fails for a while: live records go on, the journal says so, and recovers by itself."""
    with Daemon(folder, kept(disk), env=env) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("signature", 3, timeout_s=60)
        begin()
        problem = _problem(ear, is_there=True)
        n = len(ear.of("window"))
        ear.await_some("window", n + 8)
        end()
        _problem(ear, is_there=False)
        n = len(heard(ear))
        ear.await_some("signature", timeout_s=60, test=lambda _b: len(heard(ear)) > n + 2)
        code = daemon.end()
        ear.await_end()
        account = ear.account()
    unkept = sum(b["journal_seq"] is None for b in ear.bodies if b["family"] in JOURNALLED)
    missing = sorted(set(heard(ear)) - set(on_disk(disk)))
    promise(code == 0 and not missing, f"exit {code}, said to be in the journal and are not: {missing[:5]}")
    promise(account.n_slots == account.n_analysed, f"windows were lost: {account}")
    return f"'{problem[:90]}'; {unkept} records said to be in no journal, {len(heard(ear))} kept and found; {account}"


@fault(31, "disk full (a real tmpfs of 24 MB filled to the last byte while listening), freed later",
       "the live stream goes on, the journal pauses, says so, and recovers; what it said it kept is there")  # fmt: skip
def disk_full(folder: Path) -> str:
    with small_disk(folder, 24) as disk:
        filler = disk / "filler"

        def fill() -> None:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as f:
                while True:
                    f.write(bytes(4096))

        return _interrupted(disk, folder, fill, filler.unlink)


@fault(54, "state directory read-only (a real tmpfs remounted ro while listening), writable later; then from the start",
       "the live stream goes on, the journal says so and goes on by itself")  # fmt: skip
def read_only(folder: Path) -> str:
    with small_disk(folder, 64) as disk:
        mode = lambda how: subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)  # noqa: E731

        def fail() -> None:
            done = subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False, capture_output=True)
            if done.returncode:  # busy: a file is open for writing
                raise NotRun("a tmpfs in use cannot be remounted ro here; nearest run: from the start, in this fault")

        try:
            words = _interrupted(disk, folder, fail, lambda: mode("rw"))
        except NotRun as e:
            words = f"while listening: not possible ({e})"
        mode("ro")
        with Daemon(folder / "b", kept(disk)) as daemon, Ear(daemon.endpoint) as ear:
            ear.await_some("window", 4)
            problem = _problem(ear, is_there=True)
            daemon.end()
    return f"{words}; from the start: serves, '{problem[:80]}'"


@fault(33, "fsync and fdatasync fail with EIO while listening (wrapper around them), work again later",
       "nothing is said to be kept meanwhile; a new file afterwards")  # fmt: skip
def sync_fails(folder: Path) -> str:
    state = folder / "state"
    state.mkdir()
    shim = Shim(folder, disk="tonald-journal")
    return _interrupted(state, folder, lambda: shim.break_sync(True), lambda: shim.break_sync(False), shim.env)


@fault(32, "bit rot in the journal: 3 bits changed", "whole entries are given; "
       "the daemon starts and numbers go on")  # fmt: skip
def bit_rot(folder: Path) -> str:
    state = folder / "state"
    before = _filled(folder, state)
    (path, *_) = sorted((state / "journal").glob("*.tonald-journal"))
    rng, data = random.Random(32), bytearray(path.read_bytes())
    for _ in range(3):
        data[rng.randrange(8, len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    left = on_disk(state)
    promise(set(left) <= set(before) and len(left) >= len(before) - 3, f"{len(left)} of {len(before)} entries left")
    after = _filled(folder / "b", state)
    promise(max(after) > max(before) and len(after) == len(set(after)), "numbers do not go on")
    new = min(set(after) - set(before))
    return f"{len(left)} of {len(before)} entries whole and given; next start: numbers go on at {new}"


def _filled(folder: Path, state: Path) -> list[int]:
    """Numbers on disk after a short run."""
    with Daemon(folder, kept(state)) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("signature", 6, timeout_s=60)
        daemon.end()
        ear.await_end()
    return on_disk(state)


@fault(
    55, "journal torn at every byte of its last record", "all records before it are given, numbers go on, at each byte"
)
def torn(folder: Path) -> str:
    from daemon.journal.entry import entries_of
    from daemon.journal.journal import Journal

    state = folder / "state"
    before = _filled(folder, state)
    path = sorted((state / "journal").glob("*.tonald-journal"))[-1]
    data = path.read_bytes()
    *_, (begin, last, end) = entries_of(data)
    promise(end == len(data), "the file does not end with its last entry")
    whole = [entry.seq for _, entry, _ in entries_of(data[:begin])]
    n_opened = 0
    for cut in range(begin, end):
        promise([e.seq for _, e, _ in entries_of(data[:cut])] == whole, f"cut at {cut}: other entries than before it")
        if cut % max(1, (end - begin) // 400) == 0:  # opening writes and syncs: some hundred of them
            path.write_bytes(data[:cut])
            journal = Journal(path.parent)
            given = journal.append([(b"t", b"x")], lambda frames, _seq: frames)
            journal.close()
            promise(given[0] is not None and given[0] >= last.seq, f"cut at {cut}: next number {given}")
            n_opened += 1
            for other in path.parent.glob("*.tonald-journal"):
                if other != path and int(other.name[:20]) > int(path.name[:20]):
                    other.unlink()
    words = f"{end - begin} places, {len(before)} entries: at each all before it"
    return f"{words}; opened and written again at {n_opened} of them"


@fault(34, "power cut", "what was said to be kept is there; at most the group under way is lost")
def power_cut(_folder: Path) -> str:
    raise NotRun(
        "no machine here whose power can be cut; nearest run: 78 (SIGKILL), 33 (fsync fails) and 55 (torn at every "
        "byte): an entry is published only after fdatasync has returned"
    )


@fault(78, f"SIGKILL at {N_KILLS} random moments while records are journalled and published at full speed",
       "each number heard is on disk; none is used twice; numbers go on over all runs")  # fmt: skip
def killed_while_writing(folder: Path) -> str:
    state, rng, n_heard = folder / "state", random.Random(78), 0
    settings = of_file(recording(600.0, 4000)) | {"state_dir": str(state), "journal.reserve_mb": 0.0}
    seen: dict[int, str] = {}
    for _ in range(N_KILLS):
        with Ear(f"ipc://{folder}/tonald.ipc") as ear, Daemon(folder, settings) as daemon:
            ear.await_some("signature", timeout_s=60)
            time.sleep(rng.uniform(0.0, 0.7))
            daemon.end(signal.SIGKILL)
            time.sleep(0.05)
            numbers = heard(ear)
            n_heard += len(numbers)
            publisher = ear.bodies[0]["publisher"]
            promise(not set(numbers) & seen.keys(), "a number was given twice")
            seen |= dict.fromkeys(numbers, publisher)
        disk = on_disk(state)
        promise(set(numbers) <= set(disk), f"heard and not on disk: {sorted(set(numbers) - set(disk))[:5]}")
        promise(disk == sorted(set(disk)), "numbers on disk out of order or twice")
    return f"{N_KILLS} kills; {n_heard} records heard before them, all on disk, {len(disk)} in all; no number twice"


def _missed(folder: Path, kill: bool) -> str:
    """A subscriber with a memory goes away twice and comes back."""
    from daemon.journal.repair import Repaired

    state = folder / "state"
    settings = kept(state) | {"source.kind": "simulated"}
    with Daemon(folder, settings) as daemon, Ear(daemon.endpoint) as ear:
        got: list[int] = []
        since, journal = 0, ""
        n_replayed = 0
        for n in (4, 12, 24):
            ear.await_some("signature", n, timeout_s=60)
            with Repaired(daemon.endpoint, ("signature/", "gap/"), since=since, journal=journal) as client:
                end = time.monotonic() + 20
                upto = max(heard(ear))
                while (not got or got[-1] < upto) and time.monotonic() < end:
                    if (message := client.receive(0.5)) is not None and message.family in JOURNALLED:
                        got.append(message.body["journal_seq"])
                since, journal = client.seq or 0, client.journal
                n_replayed += client.n_replayed
            if kill:
                daemon.process.send_signal(signal.SIGCONT)
        daemon.end()
        ear.await_end()
    promise(got == list(range(1, len(got) + 1)), f"numbers {got[:10]} … {got[-5:]}: some missing or twice")
    promise(set(heard(ear)) >= set(got), "numbers nobody published")
    return f"{len(got)} records in order, each once, {n_replayed} of them by replay, over three visits"


@fault(
    25,
    "subscriber that comes late (after the first records) and goes away twice",
    "gets what it missed, in order, once",
)
def late(folder: Path) -> str:
    return _missed(folder, kill=False)


@fault(58, "subscriber killed (SIGKILL of tonald listen) and back, with its bookmark", "none missing; what is "
       "given again came in the last second before the kill")  # fmt: skip
def subscriber_killed(folder: Path) -> str:
    import json
    import sys

    from tests.faults.vessel import ROOT, wait_for

    out, mark = folder / "out.jsonl", folder / "mark"
    command = [sys.executable, "-m", "daemon", "listen", "--json", "--resume", str(mark)]
    with Daemon(folder, kept(folder / "state")) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("signature", 2, timeout_s=60)
        for n in (6, 14, 22):
            with out.open("ab") as f:
                listener = subprocess.Popen(
                    [*command, daemon.endpoint, "--topics", "signature/", "gap/"], cwd=ROOT, stdout=f
                )
            ear.await_some("signature", n, timeout_s=60)
            time.sleep(2.5)
            listener.kill()
            listener.wait()
            time.sleep(2.0)
        with out.open("ab") as f:
            listener = subprocess.Popen(
                [*command, daemon.endpoint, "--topics", "signature/", "gap/"], cwd=ROOT, stdout=f
            )
        upto = max(heard(ear))
        numbers: list[int] = []

        def caught_up() -> bool:
            lines = [x for x in out.read_text().splitlines() if x.endswith("}")]
            numbers[:] = [s for x in lines if (s := json.loads(x).get("journal_seq")) is not None]
            return bool(numbers) and max(numbers) >= upto

        wait_for(caught_up, 40, "the last listener's catching up")
        listener.kill()
        listener.wait()
        daemon.end()
    first = min(numbers)
    promise(set(range(first, upto + 1)) <= set(numbers), "records are missing")
    return f"3 kills: {upto - first + 1} records, none missing, {len(numbers) - len(set(numbers))} given again"
