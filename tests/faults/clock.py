"""Faults of clocks: the system clock is set, runs off, stands at 1970; the machine sleeps."""

from __future__ import annotations

import itertools
import signal
import time
from pathlib import Path
from typing import Any

from tests.faults.card import hydrophone, stop_all
from tests.faults.catalogue import Broken, fault, promise
from tests.faults.ear import Ear
from tests.faults.sea import OCEAN
from tests.faults.shim import Shim
from tests.faults.vessel import Daemon

HOUR_S = 3600.0


def _steps(windows: list[dict[str, Any]], by_s: float) -> tuple[int, float]:
    """Number of steps that the records tell of, and the largest error of a stamp, s; time is else monotonic."""
    worst = 0.0
    n_steps = 0
    for a, b in itertools.pairwise(windows):
        stepped = b["clock"]["n_steps"] - a["clock"]["n_steps"]
        n_steps += stepped
        spacing_s = (b["first_sample"] - a["first_sample"]) / b["fs"]
        moved_s = (b["t_first_sample_ns"] - a["t_first_sample_ns"]) / 1e9 - spacing_s - stepped * by_s
        worst = max(worst, abs(moved_s))
    return n_steps, worst


def _set_while_running(folder: Path, by_s: float) -> str:
    shim = Shim(folder)
    with Daemon(folder, OCEAN, env=shim.env) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("window", 5)
        shim.step(by_s)
        (told, *_) = ear.await_some("status", test=lambda b: "stepped" in b["detail"])
        ear.await_some("window", 4, test=lambda b: b["clock"]["n_steps"] == 1)
        daemon.end()
        ear.await_end()
        account = ear.account()
        n_steps, worst = _steps(ear.of("window"), by_s)
    promise(n_steps == 1 and worst < 0.05, f"{n_steps} steps told, a stamp is off by {worst:.3f} s")
    promise(account.n_slots == account.n_analysed and not account.gaps, f"sound was lost: {account}")
    return f"{told['detail']}; stamps else within {worst * 1e3:.1f} ms of the grid; {account}"


@fault(45, "system clock set forward by 1 h while listening", "told, stamps follow from there, no sample lost")
def forward(folder: Path) -> str:
    return _set_while_running(folder, HOUR_S)


@fault(46, "system clock set back by 1 h while listening", "told, stamps follow from there, no sample lost")
def back(folder: Path) -> str:
    return _set_while_running(folder, -HOUR_S)


@fault(22, "system clock at 1970 at the start, put right while listening; then a leap second",
       "windows lie evenly; each step is told once; no stamp goes astray")  # fmt: skip
def from_1970(folder: Path) -> str:
    shim = Shim(folder)
    shim.step(-int(time.time()))
    with Daemon(folder, OCEAN, env=shim.env) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("window", 4)
        shim.step(0.0)
        ear.await_some("window", 2, test=lambda b: b["clock"]["n_steps"] == 1)
        shim.step(-1.0)
        ear.await_some("window", 2, test=lambda b: b["clock"]["n_steps"] == 2)
        daemon.end()
        ear.await_end()
        account = ear.account()
        windows = ear.of("window")
    years = [time.gmtime(w["t_first_sample_ns"] / 1e9).tm_year for w in windows]
    promise(years[0] < 1971 and years[-1] > 2000, f"years {years[0]} to {years[-1]}")
    even = [w for w in windows if w["clock"]["n_steps"] == 1]
    worst = _steps(even, 0.0)[1]
    promise(worst < 0.05, f"a stamp is off by {worst:.3f} s")
    told = [b["detail"] for b in ear.of("status") if "stepped" in b["detail"]]
    promise(len(told) == 2, f"{len(told)} steps told")
    return f"2 steps told ({told[1]}); stamps in {years[0]}, then {years[-1]}; {account}"


@fault(21, "card runs off by 200 ppm (CLOCK_MONOTONIC of daemon and child 200 ppm fast against a real JACK server)",
       "measured and published within 20 ppm")  # fmt: skip
def drift(folder: Path) -> str:
    rates = []
    for ppm in (0, 200):
        sub = folder / str(ppm)
        sub.mkdir()
        shim = Shim(sub)
        shim.drift(ppm)
        with hydrophone(sub, env=shim.env) as (server, daemon, ear):

            def sure(b: dict[str, Any]) -> bool:
                return b["clock"]["rate_err_ppm"] is not None and b["clock"]["rate_err_ppm"] < 8.0

            (w, *_) = ear.await_some("window", 3, timeout_s=150, test=sure)[2:]
            stop_all(server, ear, daemon)
            ear.account()
        rates.append(w["clock"])
    still, fast = (r["rate_ppm"] for r in rates)
    promise(abs(fast - still + 200.0) < 20.0, f"{still:.1f} ppm without, {fast:.1f} ppm with")
    return (
        f"rate {still:+.1f} ± {rates[0]['rate_err_ppm']:.1f} ppm without, {fast:+.1f} ± {rates[1]['rate_err_ppm']:.1f} "
        f"ppm with the drift: {fast - still:+.1f} ppm for -200"
    )


@fault(23, "as in a suspend: daemon, child and sound server stopped together for 10 s",
       "gap and new epoch, or an exact gap; nothing joined in silence")  # fmt: skip
def suspended(folder: Path) -> str:
    with hydrophone(folder, windows=3) as (server, daemon, ear):
        child = daemon.child()
        stopped = [daemon.process.pid, child.pid, server.server.pid]
        for p in (daemon.process, child, server.server):
            p.send_signal(signal.SIGSTOP)
        time.sleep(10)
        for p in (server.server, child, daemon.process):
            p.send_signal(signal.SIGCONT)
        gaps = ear.await_some("gap", timeout_s=60)
        ear.await_some("window", epoch=1, timeout_s=90, test=lambda b: b["analysed"])
        stop_all(server, ear, daemon)
        account = ear.account()
    if not gaps:
        raise Broken(f"{stopped} stopped for 10 s and nobody told")
    return f"gap of {gaps[0]['duration_ns'] / 1e9:.1f} s told ({gaps[0]['reason']}); {account}"


@fault(70, "daemon stopped for 10 s (SIGSTOP) while the system clock is set by 1 h; the card runs on",
       "10 s are caught up from the capture ring or told as an exact gap; the step is told")  # fmt: skip
def stopped_and_stepped(folder: Path) -> str:
    shim = Shim(folder)
    with hydrophone(folder, windows=3, env=shim.env) as (server, daemon, ear):
        daemon.process.send_signal(signal.SIGSTOP)
        shim.step(HOUR_S)
        time.sleep(10)
        daemon.process.send_signal(signal.SIGCONT)
        (told, *_) = ear.await_some("status", timeout_s=60, test=lambda b: "stepped" in b["detail"])
        last = ear.of("window")[-1]["grid_index"]
        ear.await_some("window", timeout_s=90, test=lambda b: b["analysed"] and b["grid_index"] > last + 3)
        stop_all(server, ear, daemon)
        account = ear.account()
        n_steps, worst = _steps([w for w in ear.of("window", channel="ch0") if w["epoch"] == 0], HOUR_S)
    promise(n_steps == 1, f"{n_steps} steps told")
    lost = sum(g["n_samples"] or 0 for g in account.gaps if g["channel"] == "ch0")
    return f"{told['detail'][:60]}; {lost} samples lost and told; stamps within {worst * 1e3:.0f} ms; {account}"
