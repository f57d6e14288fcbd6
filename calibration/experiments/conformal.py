"""Truth-free thresholds: what share of source-free cells they remove, here and at other places.

*Coverage.* From fresh source-free recordings, one window each, thresholds are set on 12, 24, 48 and 96 windows drawn
anew in each repetition and judged on windows of other recordings. Told are the mean removal, how far single
calibrations scatter, and how often the interval that a calibration states about itself holds the truth.

*Sites.* At places with other noise than the bundle was calibrated in, the bundle's thresholds and those of the site,
both on further recordings of the site.

*Leaving out.* Windows in which a class is detected are left out by default (`calibration.site_scores`): what
thresholds set so remove of *all* source-free windows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.dataset import AMBIENT, Clip, Progress, clips_of, no_progress
from calibration.experiments.scene import FRESH_STRIDE, fresh_clips
from calibration.recordings import Catalogue
from calibration.scenarios import Scenario
from calibration.site_estimate import rank_of, removed_by_others, site_thresholds
from calibration.site_scores import score_maps
from calibration.thresholds import NOMINAL_LEVELS
from models.bundle import Bundle
from models.errors import UsageError
from models.explainer import Explainer
from models.features import windows_of

__all__ = ["SITES", "SIZES", "Heard", "coverage", "leaving_out", "listen", "on_recordings", "run", "site_row"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

#: Windows that a calibration is made of.
SIZES = (12, 24, 48, 96)
#: A little more than a window: the grid's first slot is taken.
SECONDS = 9.0
#: Windows to calibrate and to judge a site on.
N_SITE, N_JUDGE = 48, 96
#: Windows explained at once: a bound on memory.
CHUNK = 64

#: Places, by what differs from the scenario the bundle knows.
SITES: Mapping[str, Mapping[str, Any]] = {
    "as trained": {},
    "calm and far off": {"wind_kn": (1.0, 6.0), "shipping": (1.0, 2.0), "p_hum": 0.0, "n_foreign": (0, 1),
                         "p_other_family": 0.0},
    "stormy": {"wind_kn": (28.0, 40.0), "shipping": (1.0, 3.0), "p_hum": 0.0},
    "shipping lane": {"shipping": (6.0, 7.0), "n_foreign": (8, 12), "p_other_family": 0.8},
    "humming recorder": {"p_hum": 1.0},
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Source-free windows as the explainer sees them; one entry per window."""

    scores: Mapping[str, F32]
    """``{label: (n, n_cells)}``."""
    detected: Bits
    """``(n,)`` whether a class was detected."""
    recordings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.recordings)

    def take(self, index: npt.ArrayLike) -> Heard:
        """The windows of ``index`` (indices or a mask)."""
        i = np.asarray(index)
        return Heard(
            {label: s[i] for label, s in self.scores.items()}, self.detected[i],
            tuple(np.asarray(self.recordings)[i]),
        )  # fmt: skip


def listen(
    bundle: Bundle, explainer: Explainer, clips: Sequence[Clip], *, one_each: bool = True, what: str = "recordings",
    progress: Progress = no_progress,
) -> Heard:  # fmt: skip
    """Score maps of source-free recordings: of their first window, or of all that share no sample."""
    features: list[F32] = []
    spectra: list[F32] = []
    names: list[str] = []
    scores: dict[str, list[F32]] = {label: [] for label in bundle.thresholds.mix}
    detected: list[bool] = []

    def explain() -> None:
        if features:
            x, s = np.stack(features), np.stack(spectra)
            detected.extend(bool(v.detections) for v in explainer.explain(x, s))
            for label, of in scores.items():
                of.append(score_maps(bundle, explainer, x, s, label))
            features.clear()
            spectra.clear()

    for n_done, clip in enumerate(clips):
        progress(what, n_done, len(clips))
        for w in windows_of(bundle.spec, clip.fs, clip.load()[0]):
            if w.grid_index == 0 or (not one_each and w.grid_index % 9 == 0):
                features.append(w.features[0])
                spectra.append(w.spectrum_db[0])
                names.append(clip.group)
        if len(features) >= CHUNK:
            explain()
    explain()
    progress(what, len(clips), len(clips))
    return Heard({label: np.concatenate(s) for label, s in scores.items()}, np.array(detected, np.bool_), tuple(names))


def coverage(pool: Heard, test: Heard, sizes: Sequence[int], n_repetitions: int, seed: int) -> dict[str, Any]:
    """Removal of ``test`` by thresholds set on windows of ``pool``, by number of windows and nominal level.

    Returns
    -------
    dict
        ``{size: {level: {...}}}``, all but the counts in per cent: ``removed`` (mean over repetitions and labels),
        ``scatter`` (standard deviation between calibrations of one label), ``low``, ``high`` (5 and 95 % point of
        single calibrations), ``stated_interval_holds`` (how often the interval a calibration states about itself holds
        its removal), ``se`` of ``removed`` by the finite number of test recordings.
    """
    rng = np.random.default_rng([seed, 1])
    out: dict[str, Any] = {}
    ordered = {label: np.sort(s, axis=None) for label, s in test.scores.items()}
    for size in sizes:
        if size > len(pool) // 2:
            raise UsageError(f"{size} windows to calibrate on: a pool of {len(pool)} is too small, give --pool more")
        got: dict[str, list[float]] = {q: [] for q in NOMINAL_LEVELS}
        holds: dict[str, list[bool]] = {q: [] for q in NOMINAL_LEVELS}
        for _ in range(n_repetitions):
            chosen = rng.choice(len(pool), size, replace=False)
            names = [pool.recordings[i] for i in chosen]
            for label, s in pool.scores.items():
                for q, t in site_thresholds(s[chosen], names).items():
                    removed = _share_below(ordered[label], t.value)
                    got[q].append(removed)
                    holds[q].append(t.low <= removed <= t.high)
        out[str(size)] = {
            q: {
                "removed": 100.0 * float(np.mean(got[q])), "scatter": 100.0 * float(np.std(got[q], ddof=1)),
                "low": 100.0 * float(np.quantile(got[q], 0.05)), "high": 100.0 * float(np.quantile(got[q], 0.95)),
                "stated_interval_holds": 100.0 * float(np.mean(holds[q])), "se": 100.0 * _se(pool, test, q),
                "n_calibrations": len(got[q]),
            }
            for q in NOMINAL_LEVELS
        }  # fmt: skip
    return out


def _share_below(ordered: F32, threshold: float) -> float:
    return float(np.searchsorted(ordered, np.float32(threshold), side="right")) / ordered.size


def _se(pool: Heard, test: Heard, level: str) -> float:
    """Standard error, over test recordings, of the removal by the whole pool's threshold; mean over labels."""
    return float(np.mean([_by_window(test.scores[c], _threshold(s, level)).std(ddof=1) for c, s in pool.scores.items()])
                 / np.sqrt(len(test)))  # fmt: skip


def _by_window(scores: F32, threshold: float) -> F64:
    """Share of each window's cells removed."""
    out: F64 = (scores <= np.float32(threshold)).mean(axis=1)
    return out


def _threshold(scores: F32, level: str) -> float:
    rank = rank_of(scores.size, float(level))
    return float(np.partition(scores, rank - 1, axis=None)[rank - 1])


def leaving_out(pool: Heard, test: Heard) -> dict[str, Any]:
    """Removal of all windows of ``test``, in per cent, with and without windows of ``pool`` in which a class sounds."""
    quiet = pool.take(~pool.detected)
    rows = {
        q: {
            name: 100.0 * float(np.mean([_by_window(test.scores[c], _threshold(s, q)).mean() for c, s in of.items()]))
            for name, of in (("kept", pool.scores), ("left_out", quiet.scores))
        }
        for q in NOMINAL_LEVELS
    }
    share = float(np.mean(np.concatenate([pool.detected, test.detected])))
    return {"share_detected": 100.0 * share, "floor_factor": 1.0 - share, "removed": rows}


def site_row(bundle: Bundle, calibration: Heard, test: Heard) -> dict[str, Any]:
    """Removal of ``test`` at one place, in per cent: by the bundle's thresholds and by the site's.

    Returns
    -------
    dict
        Level -> for ``bundle`` and ``site`` the mean over labels, its standard error over recordings (``_se``) and the
        label with the least (``_least``).
    """
    out: dict[str, Any] = {}
    for q in NOMINAL_LEVELS:
        row: dict[str, float] = {}
        for name in ("bundle", "site"):
            by_label = []
            for label, s in calibration.scores.items():
                t = bundle.thresholds.mix[label][q] if name == "bundle" else _threshold(s, q)
                by_label.append(_by_window(test.scores[label], t))
            per_window = np.mean(by_label, axis=0)
            row[name] = 100.0 * float(per_window.mean())
            row[f"{name}_se"] = 100.0 * float(per_window.std(ddof=1) / np.sqrt(per_window.size))
            row[f"{name}_least"] = 100.0 * min(float(b.mean()) for b in by_label)
        out[q] = row
    return out


def on_recordings(
    bundle: Bundle, explainer: Explainer, catalogue: Catalogue, labels: Sequence[str], *,
    progress: Progress = no_progress,
) -> dict[str, Any] | None:  # fmt: skip
    """As `site_row` on real recordings of ``labels``, each group left out in turn; None if there are fewer than two."""
    part = dataclasses.replace(catalogue, recordings=tuple(r for r in catalogue.recordings if r.label in labels))
    clips = [dataclasses.replace(c, label=AMBIENT) for c in clips_of(part, labels)]
    if len({c.group for c in clips}) < 2:
        return None
    heard = listen(bundle, explainer, clips, one_each=False, what="real recordings", progress=progress)
    names = sorted(set(heard.recordings))
    which = np.array([names.index(r) for r in heard.recordings])
    out: dict[str, Any] = {"n_windows": len(heard), "n_groups": len(names), "labels": list(labels)}
    for q in NOMINAL_LEVELS:
        row: dict[str, float] = {}
        ours = np.mean([removed_by_others(s, heard.recordings, float(q)) for s in heard.scores.values()], axis=0)
        own = np.mean([_by_window(s, bundle.thresholds.mix[c][q]) for c, s in heard.scores.items()], axis=0)
        theirs = np.array([own[which == i].mean() for i in range(len(names))])
        for name, v in (("bundle", theirs), ("site", ours)):
            row[name], row[f"{name}_se"] = 100.0 * float(v.mean()), 100.0 * float(v.std(ddof=1) / np.sqrt(v.size))
            row[f"{name}_least"] = 100.0 * float(v.min())
        out[q] = row
    return out


def run(
    bundle: Bundle,
    explainer: Explainer,
    scenario: Scenario,
    *,
    seed: int,
    n_pool: int,
    n_repetitions: int,
    sizes: Sequence[int] = SIZES,
    sites: Sequence[str] = tuple(SITES),
    n_site: int = N_SITE,
    n_judge: int = N_JUDGE,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """All of it, on fresh recordings of ``seed``; see the module text.

    Raises
    ------
    UsageError
        If numbers are out of range.
    """
    if not 0 <= seed <= 10**9:
        raise UsageError(f"fresh seed is {seed}: must lie in 0..1000000000")
    if not 2 <= n_repetitions <= 1000:
        raise UsageError(f"repetitions are {n_repetitions}: must lie in 2..1000")
    if not 2 * max(sizes) <= n_pool <= FRESH_STRIDE // 2:
        raise UsageError(f"pool is {n_pool}: must lie in {2 * max(sizes)}..{FRESH_STRIDE // 2}")
    fs = bundle.spec.fs_model

    def heard(at: Scenario, n: int, what: str) -> Heard:
        clips = fresh_clips(at, seed, n, SECONDS, fs, (AMBIENT,))
        return listen(bundle, explainer, clips, what=what, progress=progress)

    sea = heard(scenario, 2 * n_pool, "source-free recordings")
    half = np.arange(len(sea)) < n_pool
    pool, test = sea.take(half), sea.take(~half)
    rows = {}
    for name in sites:
        place = dataclasses.replace(scenario, name=f"{scenario.name}/site {name}", **SITES[name])
        there = heard(place, n_site + n_judge, f"site '{name}'")
        first = np.arange(len(there)) < n_site
        rows[name] = site_row(bundle, there.take(first), there.take(~first))
        rows[name]["share_detected"] = 100.0 * float(there.detected.mean())
    return {
        "synthetic": True, "scenario": scenario.name, "fresh_seed": seed, "bundle": bundle.id,
        "n_pool": n_pool, "n_test": len(test), "n_repetitions": n_repetitions,
        "coverage": coverage(pool, test, sizes, n_repetitions, seed), "leaving_out": leaving_out(pool, test),
        "n_site": n_site, "n_judge": n_judge, "sites": rows,
    }  # fmt: skip
