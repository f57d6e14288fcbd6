"""Faults in the samples themselves, of recordings whose damage is known to the sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.card import hydrophone, stop_all
from tests.faults.catalogue import fault, promise
from tests.faults.ear import Account, Ear
from tests.faults.sea import FS, of_file, sound, write
from tests.faults.vessel import Daemon


def _heard(folder: Path, x: np.ndarray, **more: Any) -> tuple[Ear, Account, int]:
    """What a daemon makes of ``(n_channels, n)``."""
    path = write(folder / "x.wav", x)
    with Daemon(folder, of_file(path) | more, words=("--once",)) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_end(120)
        code = daemon.wait(30)
        return ear, ear.account(), code


@fault(7, "NaN, infinite and denormal samples (runs of 1, 100 and 5000, on one of two channels)",
       "never reach the model; each counted as a gap of its channel; the other channel is whole")  # fmt: skip
def no_numbers(folder: Path) -> str:
    x = np.stack([sound(60.0), sound(60.0)])
    holes = [(8000, 1, np.nan), (150_000, 100, np.inf), (151_000, 7, -np.inf), (300_000, 5000, np.nan)]
    for first, n, value in holes:
        x[0, first : first + n] = value
    x[1, 200_000:200_500] = 1e-42  # denormal: a number, if a small one
    ear, account, code = _heard(folder, x)
    told = [(g["first_sample"], g["n_samples"]) for g in account.gaps if g["channel"] == "ch0"]
    promise(told == [(a, n) for a, n, _ in holes], f"gaps {told}")
    whole = [w["analysed"] for w in ear.of("window", channel="ch1")]
    promise(code == 0 and all(whole), f"exit {code}, the other channel: {sum(whole)} of {len(whole)}")
    numbers = [v for w in ear.of("window", analysed=True) for v in w["probabilities"].values()]
    promise(None not in numbers, "a probability that is no number")
    return f"4 runs told to the sample; {account}; the other channel whole, {len(numbers)} probabilities all numbers"


@fault(
    47, "a channel is NaN throughout", "no window of it is analysed, all its samples told as gaps; the other is whole"
)
def all_nan(folder: Path) -> str:
    x = np.stack([np.full(40 * FS, np.nan, np.float32), sound(40.0)])
    ear, account, code = _heard(folder, x)
    lost = sum(g["n_samples"] for g in account.gaps if g["channel"] == "ch0")
    promise(code == 0 and lost == 40 * FS, f"exit {code}, {lost} samples told")
    promise(not any(w["analysed"] for w in ear.of("window", channel="ch0")), "windows of NaN were analysed")
    promise(all(w["analysed"] for w in ear.of("window", channel="ch1")), "the other channel is not whole")
    return f"{lost} of {40 * FS} samples told as gaps; {account}"


def _checks(ear: Ear, channel: str) -> set[str]:
    """Names of the checks that a channel failed."""
    return {q["check"] for b in ear.of("status", channel=channel) for q in (b["quality"] or {"checks": []})["checks"]}


def _fails(folder: Path, x: np.ndarray, check: str) -> str:
    """The first of two channels fails a check and the second does not."""
    ear, account, code = _heard(folder, np.stack([x, sound(60.0)]))
    bad, good = _checks(ear, "ch0"), _checks(ear, "ch1")
    promise(check in bad and check not in good, f"told of ch0: {sorted(bad)}, of ch1: {sorted(good)}")
    promise(code == 0, f"exit {code}")
    return f"told of ch0: {', '.join(sorted(bad))}; of ch1: {', '.join(sorted(good)) or 'nothing'}; {account}"


@fault(48, "a clipped channel (30 dB too loud, cut at full scale)", "told on status/ of that channel as clipped")
def clipped(folder: Path) -> str:
    x = sound(60.0)
    return _fails(folder, np.clip(x * np.float32(0.5 / np.std(x)) * 3, -1.0, 1.0), "clipped")


@fault(49, "a dead channel (zeros, the other lives)", "told on status/ of that channel as dead; no detections from it")
def dead(folder: Path) -> str:
    return _fails(folder, np.zeros(60 * FS, np.float32), "dead")


@fault(9, "a channel with an offset of 0.3 of full scale", "told on status/ of that channel as dc")
def offset(folder: Path) -> str:
    return _fails(folder, sound(60.0) + np.float32(0.3), "dc")


@fault(8, "a sound card that is stuck: the same block over and over", "told as lost; a gap; no detections from it")
def repeated(folder: Path) -> str:
    block = (0.1 * np.random.default_rng(8).standard_normal(1024)).astype(np.float32)
    np.save(folder / "block.npy", block)
    with hydrophone(folder, {"source.channels": [0]}, str(folder / "block.npy"), windows=0) as (server, daemon, ear):
        said = ear.await_some("status", timeout_s=40, test=lambda b: b["state"] == "waiting")
        stop_all(server, ear, daemon)
        account = ear.account()
    return f"told: {said[-1]['detail'][:100]}; {account}"
