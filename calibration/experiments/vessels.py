"""Vessel or not, on real recordings: what a figure is worth when the recorder gives the answer away.

Judges look at the same windows (`calibration.experiments.vessels_windows`):

``spectra``
    logistic regression on the level-free spectrum in 32 bands: what anybody tries first, the baseline.
``lines``
    logistic regression on five figures of our line tracks (`models.tracks`): how many are coherent, how many tones
    there are, their evidence, the strongest, how many belong to harmonic families. No shape of the spectrum enters.
``mixed``
    the same, trained on mixtures of vessels and ambient sea beside the windows (`vessels_mixed`). The method that is
    held against the baseline: named before its figures were seen.
``simulated``
    the same, trained on the simulated ocean alone: it learned nothing from any real recording, its cut neither.
``count``
    the number of tones alone; only where to cut is learned.

and each is judged by three splits: windows at **random** (windows of one recording on both sides: leaky), **by vessel**
(all recordings of a vessel, or of an ambient session, on one side; the recorder still on both), **by site** (every pair
of a vessels' site and an ambient site left out in turn: nothing of either was ever heard). Vessel and ambient come from
different sites throughout, so only the last tells anything of vessels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from calibration.dataset import Progress, no_progress
from calibration.experiments.vessels_intervals import Scores, compared, judged
from calibration.experiments.vessels_mixed import Mixtures, mixtures, simulated
from calibration.experiments.vessels_windows import LINE_FIGURES, VESSEL, Windows, look
from models.errors import InputError

__all__ = ["AMBIENT", "BASELINE", "JUDGES", "PRIMARY", "SPLITS", "Material", "attempts", "fitted", "run", "tried"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]

#: Folders without a vessel that are clean of animals, pings and hum.
AMBIENT = ("ambient", "ambient_2k")
N_FOLDS = 5
JUDGES = ("spectra", "lines", "mixed", "simulated", "count")
BASELINE, PRIMARY = "spectra", "mixed"
N_TONES = LINE_FIGURES.index("tones")
#: Folders counted as ambient when other sets are tried.
NEGATIVES = {
    "ambient": ("ambient",),
    "ambient, ambient_2k": AMBIENT,
    "and hum, animals, sonar": (*AMBIENT, "ambient_hum", "mammal", "active_sonar"),
    "and unlabelled_tonal": (*AMBIENT, "ambient_hum", "mammal", "active_sonar", "unlabelled_tonal"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What judges may learn from."""

    windows: Windows
    mixed: Mixtures
    simulated: tuple[F64, Bits]
    """Lines and kinds, see `calibration.experiments.vessels_mixed.simulated`."""


def run(folder: Path, seed: int, progress: Progress = no_progress) -> dict[str, Any]:
    """The whole experiment; the map is ready for JSON.

    Raises
    ------
    InputError
        If the recordings cannot be read, or hold no vessel or no ambient sea.
    """
    every = look(folder, progress)
    w = every.take(np.flatnonzero(every.is_vessel | np.isin(every.folder, AMBIENT)))
    y = w.is_vessel
    if y.all() or not y.any():
        raise InputError(f"{folder}: needs folders named {VESSEL}... and {' or '.join(AMBIENT)}")
    m = Material(w, mixtures(w, seed, progress), simulated(progress))
    folds = {split: cut(w, seed) for split, cut in SPLITS.items()}
    told = {j: {s: [(test, tried(m, j, train, test)) for train, test in f] for s, f in folds.items()} for j in JUDGES}
    return {
        "experiment": "vessels",
        "seed": seed,
        "primary": PRIMARY,
        "n_windows": len(w),
        "n_vessel_windows": int(y.sum()),
        "n_mixtures": len(m.mixed.is_vessel),
        "n_simulated": len(m.simulated[1]),
        "groups": {"vessel": _names(w.group[y]), "ambient": _names(w.group[~y])},
        "sites": {"vessel": _names(w.site[y]), "ambient": _names(w.site[~y])},
        "judges": {j: {s: judged(f, w) for s, f in splits.items()} for j, splits in told.items()},
        "better_than_baseline": {
            j: {s: compared(f, told[BASELINE][s], w) for s, f in told[j].items()} for j in JUDGES if j != BASELINE
        },
        "pairs": [[str(w.site[i][w.is_vessel[i]][0]), str(w.site[i][~w.is_vessel[i]][0])] for _, i in folds["by site"]],
        "other_negatives": attempts(every, m.simulated, seed),
        "folders": _folders(every, m),
    }


def tried(m: Material, judge: str, train: I64, test: I64) -> F64:
    """Probability of a vessel in the windows ``test``, by a judge that learned from the windows ``train`` at most."""
    w, y = m.windows, m.windows.is_vessel
    if judge == "spectra":
        return fitted(w.spectra[train], y[train], w.spectra[test])
    if judge == "count":
        tones = w.lines[:, N_TONES]
        # half-way between the means of both kinds, so that 0.5 is a fair cut
        cut = 0.5 * (tones[train][y[train]].mean() + tones[train][~y[train]].mean())
        out: F64 = 1.0 / (1.0 + np.exp(cut - tones[test]))
        return out
    x, kind = (w.lines[train], y[train]) if judge != "simulated" else m.simulated
    if judge == "mixed":
        own = m.mixed.within(train)
        x, kind = np.concatenate([x, m.mixed.lines[own]]), np.concatenate([kind, m.mixed.is_vessel[own]])
    return fitted(x, kind, w.lines[test])


def fitted(x: F64, y: Bits, x_test: F64, *, standard: bool = True) -> F64:
    """Probabilities by a logistic regression, of standardised figures unless told not to; both kinds weigh the same."""
    model = LogisticRegression(max_iter=2000, class_weight="balanced")
    if standard:
        model = make_pipeline(StandardScaler(), model)
    with warnings.catch_warnings():
        # kinds that a plane parts fully make the last steps slow, not wrong
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    told: F64 = model.predict_proba(x_test)[:, 1]
    return told


Folds = Sequence[tuple[I64, I64]]
"""Windows to learn from and windows to judge."""


def _random(w: Windows, seed: int) -> Folds:
    return list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(w.spectra, w.is_vessel))


def _by_vessel(w: Windows, seed: int) -> Folds:
    n = min(N_FOLDS, *(len(set(w.group[w.is_vessel == v].tolist())) for v in (True, False)))
    folds = StratifiedGroupKFold(max(2, n), shuffle=True, random_state=seed)
    return list(folds.split(w.spectra, w.is_vessel, w.group))


def _by_site(w: Windows, _seed: int) -> Folds:
    out = []
    y = w.is_vessel
    for a in _names(w.site[y]):
        for b in _names(w.site[~y]):
            left_out = (y & (w.site == a)) | (~y & (w.site == b))
            rest = ~((w.site == a) | (w.site == b))
            if len(set(y[rest].tolist())) == 2:
                out.append((np.flatnonzero(rest), np.flatnonzero(left_out)))
    return out


SPLITS: dict[str, Callable[[Windows, int], Folds]] = {"random": _random, "by vessel": _by_vessel, "by site": _by_site}


def attempts(every: Windows, simulated_lines: tuple[F64, Bits], seed: int) -> list[dict[str, Any]]:
    """The same with other folders taken for ambient, traps too: baseline in three forms, lines from either sea."""
    out = []
    for name, folders in NEGATIVES.items():
        w = every.take(np.flatnonzero(every.is_vessel | np.isin(every.folder, folders)))
        if w.is_vessel.all() or len(set(w.group[~w.is_vessel].tolist())) < 2:
            continue
        power = 10.0 ** (w.spectra / 10.0)
        share = power / power.sum(axis=1, keepdims=True)
        folds = {split: cut(w, seed) for split, cut in SPLITS.items()}
        for judge, x in (
            ("spectra", w.spectra), ("spectra, power", share), ("spectra, power, not standardised", share),
            ("lines", w.lines), ("simulated", w.lines),
        ):  # fmt: skip
            row: dict[str, Any] = {"ambient": name, "judge": judge, "n_windows": len(w)}
            for split, parts in folds.items():
                told: Scores = []
                for train, test in parts:
                    known = simulated_lines if judge == "simulated" else (x[train], w.is_vessel[train])
                    told.append((test, fitted(*known, x[test], standard="not standardised" not in judge)))
                row[split] = judged(told, w)
            out.append(row)
    return out


def _folders(every: Windows, m: Material) -> dict[str, dict[str, Any]]:
    """What stands in each folder, and how often judges call it a vessel: folders they learned from and others."""
    w = m.windows
    x = np.concatenate([w.lines, m.mixed.lines]), np.concatenate([w.is_vessel, m.mixed.is_vessel])
    told = {"mixed": fitted(*x, every.lines), "simulated": fitted(*m.simulated, every.lines)}
    out = {}
    for name in _names(every.folder):
        own = np.flatnonzero(every.folder == name)
        mean = every.lines[own].mean(axis=0)
        out[name] = {
            "n_windows": len(own),
            "n_groups": len(set(every.group[own].tolist())),
            "coherent": float(mean[0]),
            "tones": float(mean[N_TONES]),
            "in_families": float(mean[4]),
            "called_vessel": {judge: 100.0 * float(np.mean(p[own] > 0.5)) for judge, p in told.items()},
        }
    return out


def _names(words: npt.NDArray[np.str_]) -> list[str]:
    return sorted(set(words.tolist()))
