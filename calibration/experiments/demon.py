"""How well DEMON tells shaft rate and blades: simulated propellers, noise alone, and labelled real recordings.

**Simulated** (drawn anew from the seed): hiss turned up and down by a propeller, in a steady sea. Shaft rates are
log-normal around 2 Hz, blades as in `models.demon_lines.BLADES`, harmonics of the shaft are 3 to 18 dB below those of
the blades, each height scatters by 6 dB, phases are random and the speed walks. **Noise alone**:
the same without modulation. **Real**: recordings of a folder with ``labels.csv``; the columns ``demon_shaft_hz``,
``demon_blades`` and ``demon_clear`` are labels by hand, parts of one recording are joined. A rate counts as right
within 2 % or half the resolution of the recording, whichever is larger.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from calibration.dataset import Progress, no_progress
from calibration.ocean_physics import Walk
from models.demon import DemonFrontEnd, DemonSpec
from models.demon_lines import BLADES, USUAL_HZ, Modulation, modulation
from models.errors import InputError, UsageError

__all__ = ["CASES", "Case", "is_right", "on_noise", "on_recordings", "on_simulated", "propeller", "run"]

F32 = npt.NDArray[np.float32]

#: Rate of the simulated recordings, Hz, and their length, s.
FS, SECONDS = 16_000, 62.0
#: Bounds of simulated shaft rates, Hz, and deviation of their logarithm.
SHAFT_HZ, SHAFT_LOG = (0.8, 6.0), 0.5
HARMONIC_SD_DB = 6.0
#: How much lower the harmonics of the shaft alone are than those of the blades: true propellers are well balanced.
SHAFT_WEAKER_DB = (3.0, 18.0)
#: Relative deviation of the speed, and seconds between its knots.
DRIFT, KNOT_S = 0.002, 3.0
RELATIVE = 0.02


@dataclass(frozen=True, slots=True)
class Case:
    """Simulated propellers of one kind."""

    depth: float
    """Standard deviation of the hiss's power over time, relative to its mean."""
    snr_db: float
    """Hiss over the sea, in band."""


CASES = tuple(Case(depth, snr) for snr in (10.0, 0.0, -6.0) for depth in (0.2, 0.4, 0.8))


def propeller(rng: np.random.Generator, shaft_hz: float, n_blades: int, depth: float, seconds: float) -> F32:
    """Hiss at `FS` modulated by one propeller, unit variance, ``(n_samples,)``."""
    n = round(seconds * FS)
    t = np.arange(n) / FS
    turns = shaft_hz * (t + DRIFT * Walk.draw(rng, seconds, KNOT_S).integral(t))
    k = np.arange(1, 3 * n_blades + 1)
    weaker = 10.0 ** (-rng.uniform(*SHAFT_WEAKER_DB) / 20.0)
    height = np.ceil(k / n_blades) ** -0.7 * np.where(k % n_blades == 0, 1.0, weaker)
    height *= 10.0 ** (rng.normal(0.0, HARMONIC_SD_DB, k.size) / 20.0)
    phase = rng.uniform(0.0, 1.0, k.size)
    grid = np.linspace(0.0, 1.0, 4097)
    one_turn = (height * np.cos(2.0 * np.pi * (grid[:, None] * k + phase))).sum(axis=1)
    one_turn = np.maximum(1.0 + depth * one_turn / one_turn.std(), 0.0)  # power
    power = np.interp(turns % 1.0, grid, one_turn)
    out: F32 = (rng.standard_normal(n) * np.sqrt(power / power.mean())).astype(np.float32)
    return out


def is_right(found_hz: float, true_hz: float, seconds: float) -> bool:
    """Within 2 %, or half the resolution of a recording of that length."""
    return abs(found_hz - true_hz) <= max(RELATIVE * true_hz, 0.5 / seconds)


def on_simulated(seed: int, n: int, progress: Progress = no_progress) -> list[dict[str, Any]]:
    """One row per case: shares found and right, per cent with standard errors; ``n`` propellers each."""
    rows = []
    for i, case in enumerate(CASES):
        progress("propellers", i, len(CASES))
        outcomes = []
        for j in range(n):
            rng = np.random.default_rng([seed, i, j])
            shaft = float(np.clip(np.exp(rng.normal(np.log(USUAL_HZ), SHAFT_LOG)), *SHAFT_HZ))
            blades = int(rng.choice(list(BLADES), p=list(BLADES.values())))
            hiss = propeller(rng, shaft, blades, case.depth, SECONDS)
            sea = rng.standard_normal(hiss.size).astype(np.float32)
            m = _last(hiss * 10.0 ** (case.snr_db / 20.0) + sea, FS)
            right = is_right(m.shaft_hz, shaft, SECONDS)
            multiple = any(is_right(m.shaft_hz, shaft * q, SECONDS) for q in (1 / 4, 1 / 3, 1 / 2, 2, 3, 4))
            outcomes.append((m.found, m.found and right, m.found and multiple, m.found and m.blades == blades))
        found = np.array(outcomes, float)
        row: dict[str, Any] = {"depth": case.depth, "snr_db": case.snr_db, "n": n}
        for name, column in zip(("found", "right", "multiple", "blades"), found.T, strict=True):
            row[name] = 100.0 * float(column.mean())
            row[f"{name}_se"] = 100.0 * float(np.sqrt(column.mean() * (1.0 - column.mean()) / n))
        rows.append(row)
    progress("propellers", len(CASES), len(CASES))
    return rows


def on_noise(seed: int, n: int, progress: Progress = no_progress) -> dict[str, Any]:
    """Scores of a sea without modulation: share called found, and the highest."""
    scores = []
    for j in range(n):
        progress("noise", j, n)
        rng = np.random.default_rng([seed, 99, j])
        scores.append(_last(rng.standard_normal(round(SECONDS * FS)).astype(np.float32), FS))
    progress("noise", n, n)
    return {
        "n": n,
        "found": 100.0 * float(np.mean([m.found for m in scores])),
        "highest_score": max(m.score for m in scores),
        "median_score": float(np.median([m.score for m in scores])),
    }


def on_recordings(folder: Path, progress: Progress = no_progress) -> dict[str, Any]:
    """Rates found in the recordings that ``folder/labels.csv`` lists, beside the labels.

    Raises
    ------
    InputError
        If the table or a recording cannot be read, or the table lacks a column.
    """
    rows: list[dict[str, Any]] = []
    too_low, short = 0, 0
    recordings = list(_recordings(folder))
    for i, (name, listed) in enumerate(recordings):
        progress("recordings", i, len(recordings))
        x, fs = _joined(folder, listed)
        if fs < DemonSpec().least_fs:
            too_low += 1
            continue
        seconds = len(x) / fs
        if seconds < DemonSpec().least_s:
            short += 1
            continue
        m = _last(x, fs, DemonSpec(window_s=max(10.0, min(600.0, float(int(seconds)))), step_s=1.0, least_s=8.0))
        label = listed[0]
        true = float(label["demon_shaft_hz"]) if label["demon_shaft_hz"] else None
        rows.append({
            "recording": name, "cls": label["cls"], "seconds": seconds, "clear": label["demon_clear"] == "yes",
            "label_hz": true, "label_blades": int(label["demon_blades"]) if label["demon_blades"] else None,
            "found": m.found, "pulses": m.pulses, "score": m.score, "shaft_hz": m.shaft_hz, "blades": m.blades,
            "right": None if true is None else bool(m.found and is_right(m.shaft_hz, true, seconds)),
            "multiple": None if true is None else _multiple(m.shaft_hz / true),
        })  # fmt: skip
    progress("recordings", len(recordings), len(recordings))
    clear = [r for r in rows if r["clear"] and r["label_hz"]]
    quiet = [r for r in rows if not r["cls"].startswith("vessel")]
    return {
        "rows": rows,
        "n_clear": len(clear),
        "right": _share([bool(r["right"]) for r in clear]),
        "right_or_multiple": _share([bool(r["right"]) or r["multiple"] not in (None, 1.0) for r in clear]),
        "blades": _share([bool(r["found"]) and r["blades"] == r["label_blades"] for r in clear]),
        "n_without_vessel": len(quiet),
        "found_without_vessel": _share([bool(r["found"]) for r in quiet]),
        "n_rate_too_low": too_low,
        "n_too_short": short,
    }


def run(seed: int, n: int, n_noise: int, data: Path | None = None, progress: Progress = no_progress) -> dict[str, Any]:
    """The whole experiment; the map is ready for JSON.

    Raises
    ------
    UsageError
        If a number is out of range.
    InputError
        If the recordings cannot be read.
    """
    if not 1 <= n <= 10_000 or not 1 <= n_noise <= 100_000 or seed < 0:
        raise UsageError(f"{n} propellers, {n_noise} of noise, seed {seed}: numbers must be positive")
    return {
        "experiment": "demon",
        "fresh_seed": seed,
        "simulated": on_simulated(seed, n, progress),
        "noise": on_noise(seed, n_noise, progress),
        "real": None if data is None else on_recordings(data, progress),
    }


def _last(x: F32, fs: int, spec: DemonSpec | None = None) -> Modulation:
    """Of the last window of a recording ``(n_samples,)``."""
    windows = list(DemonFrontEnd(spec or DemonSpec(), fs, 1).process(np.ascontiguousarray(x[None], np.float32)))
    return modulation(windows[-1].envelope[0], windows[-1].fs_mod)


def _multiple(ratio: float) -> float | None:
    """The simple multiple of the label that was found, within 2 %, if any."""
    for q in (1.0, 2.0, 3.0, 4.0, 1 / 2, 1 / 3, 1 / 4):
        if abs(ratio / q - 1.0) <= RELATIVE:
            return q
    return None


def _share(values: Sequence[bool]) -> float | None:
    return 100.0 * float(np.mean(values)) if values else None


def _recordings(folder: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Name and rows of each recording, the parts of one together and in order."""
    try:
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
    except OSError as e:
        raise InputError(f"{folder / 'labels.csv'}: cannot be read: {e.strerror}") from e
    wanted = {"file", "cls", "demon_shaft_hz", "demon_blades", "demon_clear"}
    if not rows or (missing := sorted(wanted - set(rows[0]))):
        raise InputError(f"{folder / 'labels.csv'}: lacks the column {missing[0] if rows else 'file'}")
    together: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        together.setdefault(re.sub(r"_part\d+(?=\.)", "", row["file"]), []).append(row)
    for name, parts in together.items():
        yield name, sorted(parts, key=lambda r: r["file"])


def _joined(folder: Path, parts: Sequence[Mapping[str, str]]) -> tuple[F32, int]:
    """First channel of all parts, one after the other, and their rate."""
    blocks, rates = [], set()
    for part in parts:
        try:
            x, fs = soundfile.read(folder / part["file"], dtype="float32", always_2d=True)
        except (OSError, soundfile.LibsndfileError) as e:
            raise InputError(f"{folder / part['file']}: cannot be read: {' '.join(str(e).split())}") from e
        blocks.append(x[:, 0])
        rates.add(int(fs))
    if len(rates) != 1:
        raise InputError(f"{folder / parts[0]['file']}: its parts have different sample rates")
    return np.concatenate(blocks), rates.pop()
