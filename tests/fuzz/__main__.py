"""``python -m tests.fuzz --cases 1000000``: damaged bytes for every reader; non-zero if one crashes, hangs or errs.

Each case runs in a worker process; a watchdog kills one that stands still. A case is known by target, seed and number:
``--target wire --seed 1 --case 12345`` runs it alone, here, with its traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.targets import BY_NAME, TARGETS, Target, in_memory

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 10.0
"""For one case, on a machine that does other things too."""
START_S = 60.0
MOST_SHOWN = 20


@dataclass
class Result:
    """What came of a target."""

    name: str
    n: int
    n_run: int = 0
    n_read: int = 0
    n_crashes: int = 0
    n_hangs: int = 0
    errors: dict[str, list[int]] = field(default_factory=dict)
    """Cases by what went wrong."""
    took_s: float = 0.0

    @property
    def n_bad(self) -> int:
        return sum(map(len, self.errors.values()))


def main() -> int:
    """Run all targets, show the table; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000, help="in total, shared out over the targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=sorted(BY_NAME), help="this one only")
    parser.add_argument("--case", type=int, help="with --target: this case only")
    args = parser.parse_args()
    if args.case is not None:
        BY_NAME[args.target].run(BY_NAME[args.target].case(args.seed, args.case))
        return 0
    chosen = [BY_NAME[args.target]] if args.target else list(TARGETS)
    shares = sum(t.share for t in chosen)
    waiting = [Result(t.name, round(args.cases * t.share / shares)) for t in chosen]
    sys.stdout.write(
        f"{'target':10s} {'cases':>8s} {'read':>8s} {'refused':>8s} {'other':>6s} {'crash':>6s} {'hang':>5s}      s\n"
    )
    results: list[Result] = []
    running: list[tuple[Result, Iterator[None]]] = []
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            r = waiting.pop(0)
            running.append((r, fuzz(BY_NAME[r.name], r, args.seed)))
        for pair in list(running):
            if next(pair[1], True) is True:
                running.remove(pair)
                results.append(pair[0])
                _show(pair[0])
        time.sleep(0.05)
    n, bad = sum(r.n_run for r in results), sum(r.n_bad for r in results)
    n_crashes, n_hangs = sum(r.n_crashes for r in results), sum(r.n_hangs for r in results)
    sys.stdout.write(
        f"fuzz: {n} cases, {n_crashes} crashes, {n_hangs} hangs, {bad - n_crashes - n_hangs} undocumented errors\n"
    )
    return int(bad > 0)


def _show(r: Result) -> None:
    other = r.n_bad - r.n_crashes - r.n_hangs
    sys.stdout.write(
        f"{r.name:10s} {r.n_run:8d} {r.n_read:8d} {r.n_run - r.n_read - r.n_bad:8d} {other:6d} {r.n_crashes:6d} "
        f"{r.n_hangs:5d} {r.took_s:6.0f}\n"
    )
    for how, cases in list(r.errors.items())[:MOST_SHOWN]:
        sys.stdout.write(f"    {len(cases)} x {how}; first: --target {r.name} --case {cases[0]}\n")
    sys.stdout.flush()


def fuzz(target: Target, result: Result, seed: int) -> Iterator[None]:
    """Run the cases of one target, worker after worker; gives control back between looks."""
    began = time.monotonic()
    first = 0
    while first < result.n:
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=in_memory()) as folder:
            progress, out = Path(folder) / "progress", Path(folder) / "out"
            progress.write_bytes(struct.pack("<qqq", -1, 0, 0))
            words = [target.name, str(seed), str(first), str(result.n), str(progress)]
            with out.open("wb") as said:
                worker = subprocess.Popen(
                    [sys.executable, "-m", "tests.fuzz.worker", *words],
                    cwd=ROOT, env=os.environ | {"FUZZ_FOLDER": folder}, stdout=said, stderr=subprocess.STDOUT,
                )  # fmt: skip
                yield from _watch(worker, progress)
            case, n_run, n_read = struct.unpack("<qqq", progress.read_bytes())
            lines = out.read_text(errors="replace").splitlines()
            for line in lines:
                if line.startswith('{"case"'):
                    found = json.loads(line)
                    result.errors.setdefault(found["how"], []).append(found["case"])
        result.n_run += n_run
        result.n_read += n_read
        if worker.returncode == 0:
            break
        if case < 0:
            raise RuntimeError(f"the worker for {target.name} does not start: {' / '.join(lines[-3:])}")
        hung = worker.returncode == -9
        result.n_hangs += hung
        result.n_crashes += not hung
        result.n_run += 1
        how = f"hangs for {DEADLINE_S:g} s" if hung else f"the process ended with {worker.returncode}"
        result.errors.setdefault(how, []).append(case)
        first = case + 1
    result.took_s = time.monotonic() - began


def _watch(worker: subprocess.Popen[bytes], progress: Path) -> Iterator[None]:
    """Until the worker has ended; kill it if a case takes longer than the deadline."""
    at, since = -2, time.monotonic()
    while worker.poll() is None:
        case = struct.unpack("<q", progress.read_bytes()[:8])[0]
        now = time.monotonic()
        if case != at:
            at, since = case, now
        elif now - since > (START_S if case < 0 else DEADLINE_S):
            worker.kill()
            worker.wait()
            return
        yield


if __name__ == "__main__":
    sys.exit(main())
