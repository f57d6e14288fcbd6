"""False alarms: how many contacts start on source-free sea, by the gates that are set, and on fresh sea as promised.

The sea is the simulated ocean without vessels: wind, shipping, calls, clicks, and in each recording tonals that belong
to no known class (two to five foreign lines; mains hum in 30 %, the harmonic family of a distant vessel in 20 %).
Ten-minute recordings are independent, so 10 h hold 60 seas. The curve is measured on the space ``calibrate``; the proof
listens to fresh recordings of the space ``test``. What listens is given from above: the stages of the daemon itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from calibration.dataset import AMBIENT, Clip, Progress, no_progress, simulated_clips
from calibration.experiments.scene import fresh_clips
from calibration.false_alarms import FalseAlarmCurve, poisson_interval
from calibration.recordings import Catalogue, Recording, read
from calibration.scenarios import Scenario
from calibration.sets import strangers

__all__ = [
    "CLASS_GATES", "RECORDING_S", "UNKNOWN_GATES", "Gates", "Listener", "Start", "count_real", "find_ships",
    "fresh_sea", "measure_curves", "prove", "sea_to_calibrate", "sessions",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
Gates = tuple[float, float]
"""Least score of a class, log-odds, and of ``unknown``, lines."""

RECORDING_S = 600.0
"""Length of one simulated recording: one sea."""
FS = 2000
#: First recording of the space ``calibrate`` used here, far from those that networks are calibrated on.
CALIBRATE_FIRST = 50_000_000
SHIP_S = 60.0
N_SHIPS = 12
"""Recordings of each class that are looked for."""
#: The lowest gates let everything pass; log-odds and lines.
CLASS_GATES: tuple[float, ...] = (-20.0, *(0.25 * k for k in range(41)))
UNKNOWN_GATES: tuple[float, ...] = tuple(0.25 * k for k in range(49))


@dataclass(frozen=True, slots=True)
class Start:
    """One contact that started."""

    label: str
    t_s: float
    """When that was known, s after the first sample."""


class Listener(Protocol):
    """The stages of the daemon, over whole recordings."""

    def listen(self, x: F32, fs: int) -> object:
        """All that the stages before the contacts make of ``x`` ``(n_channels, n_samples)``, at ``fs`` Hz."""

    def starts(self, heard: Any, gates: Gates) -> list[Start]:  # noqa: ANN401  (what listen gave, its own business)
        """Contacts that start with these gates, all channels."""

    def highest(self, heard: Any) -> Gates:  # noqa: ANN401
        """Highest score of any class and of ``unknown`` in any window; gates above it start nothing."""


def sea_to_calibrate(scenario: Scenario, hours: float) -> list[Clip]:
    """Source-free recordings to measure the curve on."""
    clips = simulated_clips(scenario, "calibrate", _n(hours), RECORDING_S, first=CALIBRATE_FIRST, fs=FS)
    return [c for c in clips if c.label == AMBIENT]


def fresh_sea(scenario: Scenario, seed: int, hours: float) -> list[Clip]:
    """Source-free recordings that nothing was set on."""
    return fresh_clips(scenario, seed, _n(hours), RECORDING_S, FS, (AMBIENT,))


def _n(hours: float) -> int:
    return max(1, round(hours * 3600.0 / RECORDING_S))


def _kind(label: str) -> str:
    return "unknown" if label == "unknown" else "class"


def measure_curves(
    listener: Listener, clips: Sequence[Clip], *, progress: Progress = no_progress
) -> tuple[FalseAlarmCurve, ...]:
    """Contact starts at every gate, of classes together and of ``unknown``."""
    n_gates = {"class": len(CLASS_GATES), "unknown": len(UNKNOWN_GATES)}
    counts = {kind: np.zeros((len(clips), n), np.int64) for kind, n in n_gates.items()}
    hours = 0.0
    for n_done, clip in enumerate(clips):
        progress("recordings without a source", n_done, len(clips))
        x, _ = clip.load()
        hours += x.size / clip.fs / 3600.0
        heard = listener.listen(x, clip.fs)
        top = listener.highest(heard)
        n_class, n_unknown = (
            sum(g <= t for g in gates) for gates, t in zip((CLASS_GATES, UNKNOWN_GATES), top, strict=True)
        )
        for i in range(max(n_class, n_unknown)):
            # beyond its last gate a kind is not counted: what it starts there is not asked for
            gates = CLASS_GATES[min(i, len(CLASS_GATES) - 1)], UNKNOWN_GATES[min(i, len(UNKNOWN_GATES) - 1)]
            for start in listener.starts(heard, gates):
                if i < n_gates[_kind(start.label)]:
                    counts[_kind(start.label)][n_done, i] += 1
    progress("recordings without a source", len(clips), len(clips))
    return tuple(
        FalseAlarmCurve(
            kind=kind,
            hours=hours,
            gates=gates,
            counts=tuple(counts[kind].sum(axis=0).tolist()),
            recordings=tuple((counts[kind] > 0).sum(axis=0).tolist()),
        )
        for kind, gates in (("class", CLASS_GATES), ("unknown", UNKNOWN_GATES))
    )


def prove(
    listener: Listener,
    clips: Sequence[Clip],
    settings: Mapping[float, Gates],
    *,
    progress: Progress = no_progress,
) -> dict[float, dict[str, Any]]:
    """Contact starts per day on fresh source-free sea, for each setting (starts per day asked for) and its gates.

    Returns
    -------
    dict
        Setting -> ``hours``, ``n_expected`` and ``n_starts`` of contacts, ``per_day`` with its standard error over
        recordings, ``interval_95_per_day`` (Poisson, exact), ``holds`` (the interval includes, or lies below, twice the
        setting), ``dispersion`` (variance over mean of the counts of recordings; 1: as Poisson has it) and
        ``by_label``.
    """
    per_clip: dict[float, list[int]] = {s: [] for s in settings}
    by_label: dict[float, dict[str, int]] = {s: {} for s in settings}
    hours = 0.0
    for n_done, clip in enumerate(clips):
        progress("fresh recordings without a source", n_done, len(clips))
        x, _ = clip.load()
        hours += x.size / clip.fs / 3600.0
        heard = listener.listen(x, clip.fs)
        for setting, gates in settings.items():
            starts = listener.starts(heard, gates)
            per_clip[setting].append(len(starts))
            for s in starts:
                by_label[setting][s.label] = by_label[setting].get(s.label, 0) + 1
    progress("fresh recordings without a source", len(clips), len(clips))
    return {s: {**_rate(per_clip[s], hours, s), "by_label": dict(sorted(by_label[s].items()))} for s in settings}


def _rate(counts: Sequence[int], hours: float, per_day: float) -> dict[str, Any]:
    c = np.array(counts, np.float64)
    n, days = int(c.sum()), hours / 24.0
    lo, hi = (v / days for v in poisson_interval(n))
    variance = float(c.var(ddof=1)) if c.size > 1 else 0.0
    return {
        "hours": hours, "n_recordings": len(counts), "n_expected": per_day * days, "n_starts": n, "per_day": n / days,
        "per_day_se": float(np.sqrt(variance * c.size)) / days, "interval_95_per_day": [lo, hi],
        "holds": lo <= 2.0 * per_day, "dispersion": variance / float(c.mean()) if n else None,
    }  # fmt: skip


def find_ships(
    listener: Listener,
    scenario: Scenario,
    seed: int,
    settings: Mapping[float, Gates],
    *,
    progress: Progress = no_progress,
) -> dict[float, dict[str, dict[str, Any]]]:
    """What the gates cost: of fresh one-minute recordings of each class, how many start its contact, and how soon.

    Vessels of classes no network was trained on (`calibration.sets.strangers`) count as found by any contact; they are
    one row, ``strangers``.

    Returns
    -------
    dict
        Setting -> label -> ``n_recordings``, ``found`` (per cent), ``median_s`` until the start (None: none found) and
        ``misnamed`` (per cent of recordings in which a contact of another class started).
    """
    known = set(scenario.labels)
    others = strangers(scenario)
    clips = fresh_clips(scenario, seed, N_SHIPS, SHIP_S, FS, scenario.labels)
    clips += fresh_clips(others, seed, max(1, N_SHIPS // 4), SHIP_S, FS, others.labels)
    seen: dict[float, dict[str, list[tuple[float | None, bool]]]] = {s: {} for s in settings}
    for n_done, clip in enumerate(clips):
        progress("fresh recordings with a ship", n_done, len(clips))
        heard = listener.listen(clip.load()[0], clip.fs)
        for setting, gates in settings.items():
            starts = listener.starts(heard, gates)
            own = [s.t_s for s in starts if clip.label not in known or s.label == clip.label]
            other = any(s.label in known - {clip.label} for s in starts)
            row = clip.label if clip.label in known else "strangers"
            seen[setting].setdefault(row, []).append((min(own, default=None), other))
    progress("fresh recordings with a ship", len(clips), len(clips))
    return {s: {label: _found(v) for label, v in rows.items()} for s, rows in seen.items()}


def _found(outcomes: Sequence[tuple[float | None, bool]]) -> dict[str, Any]:
    times = [t for t, _ in outcomes if t is not None]
    return {
        "n_recordings": len(outcomes), "found": 100.0 * len(times) / len(outcomes),
        "median_s": float(np.median(times)) if times else None,
        "misnamed": 100.0 * sum(other for _, other in outcomes) / len(outcomes),
    }  # fmt: skip


def sessions(catalogue: Catalogue, labels: Sequence[str]) -> Iterator[tuple[str, list[Recording]]]:
    """Recordings that belong together: of one label, rate and number of channels, names alike but for their digits.

    Pieces of 10 s hold two windows each, of which no contact can start; cut from one recording, in the order of their
    names, they are one.
    """
    found: dict[tuple[str, str, int, int], list[Recording]] = {}
    for r in sorted(catalogue.recordings, key=lambda r: r.path.name):
        if r.label in labels:
            name = re.sub(r"\d+", "#", r.path.stem)
            found.setdefault((r.label, name, r.fs, r.n_channels), []).append(r)
    for (label, name, _, _), parts in sorted(found.items()):
        yield f"{label}/{name}", parts


def count_real(
    listener: Listener, catalogue: Catalogue, labels: Sequence[str], settings: Mapping[float, Gates]
) -> dict[float, dict[str, Any]]:
    """Contact starts per day on real recordings of ``labels``: as `prove`, sessions for recordings."""
    per_session: dict[float, list[int]] = {s: [] for s in settings}
    by_label: dict[float, dict[str, int]] = {s: {} for s in settings}
    hours, names = 0.0, []
    for name, parts in sessions(catalogue, labels):
        x = np.concatenate([read(r) for r in parts], axis=1)
        hours += x.size / parts[0].fs / 3600.0
        names.append(name)
        heard = listener.listen(x, parts[0].fs)
        for setting, gates in settings.items():
            starts = listener.starts(heard, gates)
            per_session[setting].append(len(starts))
            for s in starts:
                by_label[setting][s.label] = by_label[setting].get(s.label, 0) + 1
    if not names:
        return {}
    return {
        s: {**_rate(per_session[s], hours, s), "by_label": dict(sorted(by_label[s].items())), "sessions": names}
        for s in settings
    }
