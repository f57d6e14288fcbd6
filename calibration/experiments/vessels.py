"""Vessel or not, on real recordings: what a figure is worth when the recorder gives the answer away.

Windows of `SECONDS`, mean removed, `BAND_HZ` at most. Three judges look at the same windows:

``spectra``
    logistic regression on the level-free spectrum in 32 bands: what anybody tries first.
``lines``
    logistic regression on five figures of our line tracks (`models.tracks`): how many are coherent, how many tones
    there are, their evidence, the strongest, how many belong to harmonic families. No shape of the spectrum enters.
``count``
    the number of tones alone. It is never trained.

and each is judged by three splits: windows at **random** (windows of one recording on both sides: leaky), **by vessel**
(all recordings of a vessel, or of an ambient session, on one side; the recorder still on both), **by site** (every pair
of a vessels' site and an ambient site left out in turn: nothing of either was ever heard). Vessel and ambient come from
different sites throughout, so only the last tells anything of vessels.
"""

from __future__ import annotations

import csv
import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from calibration.dataset import Progress, no_progress
from models.errors import InputError
from models.families import families
from models.feature_spec import FeatureSpec
from models.features import windows_of
from models.tracks import COHERENT, EVEN_EVIDENCE, TrackFinder

__all__ = ["AMBIENT", "JUDGES", "TRAPS", "Windows", "judged", "look", "run", "scores"]

F64 = npt.NDArray[np.float64]

SECONDS = 5.0
BAND_HZ, N_BANDS = (20.0, 900.0), 32
#: Folders without a vessel that are clean of animals, pings and hum; folders that hold traps for an ear for lines.
AMBIENT = ("ambient", "ambient_2k")
TRAPS = ("ambient_hum", "active_sonar", "mammal", "unlabelled_tonal")
VESSEL = "vessel"
N_FOLDS, N_BOOT = 5, 400
JUDGES = ("spectra", "lines", "count")
#: Columns of the line figures: all, and the one that counts tones.
N_TONES = 1
SPEC = FeatureSpec(n_time=32, n_time_step=4)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """All windows; arrays have one entry per window."""

    folder: npt.NDArray[np.str_]
    group: npt.NDArray[np.str_]
    """Vessel, or session of ambient recordings."""
    site: npt.NDArray[np.str_]
    """Where and by whom it was recorded."""
    spectra: F64
    """``(n, N_BANDS)`` dB, mean 0."""
    lines: F64
    """``(n, 5)``: coherent tracks, tones, log of the summed evidence, log of the highest, lines in families."""

    def __len__(self) -> int:
        return len(self.folder)

    def take(self, index: npt.NDArray[Any]) -> Windows:
        """Some of them."""
        return Windows(*(getattr(self, n)[index] for n in ("folder", "group", "site", "spectra", "lines")))

    @property
    def is_vessel(self) -> npt.NDArray[np.bool_]:
        """By folder."""
        return np.char.startswith(self.folder, VESSEL)

    def judged_by(self, judge: str) -> F64:
        """What a judge looks at."""
        return {"spectra": self.spectra, "lines": self.lines, "count": self.lines[:, [N_TONES]]}[judge]


def look(folder: Path, progress: Progress = no_progress) -> Windows:
    """Windows of all recordings that ``folder/labels.csv`` lists and whose rate suffices.

    Raises
    ------
    InputError
        If the table or a recording cannot be read.
    """
    try:
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
    except OSError as e:
        raise InputError(f"{folder / 'labels.csv'}: cannot be read: {e.strerror}") from e
    if not rows or (missing := sorted({"file", "cls", "vessel"} - set(rows[0]))):
        raise InputError(f"{folder / 'labels.csv'}: lacks the column {missing[0] if rows else 'file'}")
    finder = TrackFinder(SPEC)
    found: list[tuple[str, str, str, F64, F64]] = []
    for i, row in enumerate(rows):
        progress("recordings", i, len(rows))
        try:
            x, fs = soundfile.read(folder / row["file"], dtype="float32", always_2d=True)
        except (OSError, soundfile.LibsndfileError) as e:
            raise InputError(f"{folder / row['file']}: cannot be read: {' '.join(str(e).split())}") from e
        if fs < SPEC.fs_model:
            continue
        group, site = _origin(row)
        found += [(row["cls"], group, site, s, n) for s, n in _figures(x[:, 0], int(fs), finder)]
    progress("recordings", len(rows), len(rows))
    if not found:
        raise InputError(f"{folder}: holds no recording of {SECONDS:g} s and {SPEC.fs_model} Hz")
    words = [np.array([f[k] for f in found]) for k in range(3)]
    return Windows(words[0], words[1], words[2], np.array([f[3] for f in found]), np.array([f[4] for f in found]))


def run(folder: Path, seed: int, progress: Progress = no_progress) -> dict[str, Any]:
    """The whole experiment; the map is ready for JSON.

    Raises
    ------
    InputError
        If the recordings cannot be read, or hold no vessel or no ambient sea.
    """
    every = look(folder, progress)
    chosen = every.take(np.flatnonzero(every.is_vessel | np.isin(every.folder, AMBIENT)))
    y = chosen.is_vessel
    if y.all() or not y.any():
        raise InputError(f"{folder}: needs folders named {VESSEL}... and {' or '.join(AMBIENT)}")
    table = {
        judge: {name: judged(split(chosen, judge, seed), chosen) for name, split in SPLITS.items()} for judge in JUDGES
    }
    return {
        "experiment": "vessels",
        "seed": seed,
        "n_windows": len(chosen),
        "n_vessel_windows": int(y.sum()),
        "groups": {"vessel": _names(chosen.group[y]), "ambient": _names(chosen.group[~y])},
        "sites": {"vessel": _names(chosen.site[y]), "ambient": _names(chosen.site[~y])},
        "judges": table,
        "folders": _folders(every, chosen),
    }


Scores = list[tuple[npt.NDArray[np.int64], F64]]
"""Of each test fold: which windows, and the probability of a vessel in each."""


def scores(x: F64, y: npt.NDArray[np.bool_], train: npt.NDArray[Any], test: npt.NDArray[Any], judge: str) -> F64:
    """Scores of the windows ``test``, higher for vessels; ``count`` learns its threshold alone."""
    if judge == "count":
        # half-way between the means of both kinds, so that 0.5 is a fair cut
        cut = 0.5 * (x[train][y[train]].mean() + x[train][~y[train]].mean())
        out: F64 = 1.0 / (1.0 + np.exp(cut - x[test, 0]))
        return out
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that a plane parts fully make the last steps slow, not wrong
        model.fit(x[train], y[train])
    told: F64 = model.predict_proba(x[test])[:, 1]
    return told


def _random(w: Windows, judge: str, seed: int) -> Scores:
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(w.spectra, w.is_vessel)
    return [(test, scores(w.judged_by(judge), w.is_vessel, train, test, judge)) for train, test in folds]


def _by_vessel(w: Windows, judge: str, seed: int) -> Scores:
    n = min(N_FOLDS, *(len(set(w.group[w.is_vessel == v].tolist())) for v in (True, False)))
    folds = StratifiedGroupKFold(max(2, n), shuffle=True, random_state=seed).split(w.spectra, w.is_vessel, w.group)
    return [(test, scores(w.judged_by(judge), w.is_vessel, train, test, judge)) for train, test in folds]


def _by_site(w: Windows, judge: str, _seed: int) -> Scores:
    out: Scores = []
    y = w.is_vessel
    for a in _names(w.site[y]):
        for b in _names(w.site[~y]):
            left_out = (y & (w.site == a)) | (~y & (w.site == b))
            rest = ~((w.site == a) | (w.site == b))
            if len(set(y[rest].tolist())) == 2:
                train, test = np.flatnonzero(rest), np.flatnonzero(left_out)
                out.append((test, scores(w.judged_by(judge), y, train, test, judge)))
    return out


SPLITS: dict[str, Callable[[Windows, str, int], Scores]] = {
    "random": _random, "by vessel": _by_vessel, "by site": _by_site,
}  # fmt: skip


def judged(folds: Scores, w: Windows) -> dict[str, Any] | None:
    """Area under the curve and balanced accuracy, each with a 95 % interval over groups drawn anew; per cent.

    Each fold of the split by site is a pair of sites: their mean is taken, so that no pair outweighs another.
    """
    if not folds:
        return None
    parts = [(w.is_vessel[i], s, w.group[i]) for i, s in folds]
    pooled = not _overlap(folds)
    if pooled:
        index = np.concatenate([i for i, _ in folds])
        parts = [(w.is_vessel[index], np.concatenate([s for _, s in folds]), w.group[index])]
    auc, accuracy = _figures_of(parts)
    rng = np.random.default_rng(0)
    drawn = np.array([_figures_of([_redrawn(p, rng) for p in parts]) for _ in range(N_BOOT)])
    low, high = np.nanquantile(drawn, (0.025, 0.975), axis=0)
    return {
        "auc": 100.0 * auc, "auc_95": [100.0 * float(low[0]), 100.0 * float(high[0])],
        "balanced_accuracy": 100.0 * accuracy, "balanced_accuracy_95": [100.0 * float(low[1]), 100.0 * float(high[1])],
        "n_folds": len(folds),
        "auc_of_folds": [100.0 * float(roc_auc_score(p[0], p[1])) for p in parts] if not pooled else None,
    }  # fmt: skip


Part = tuple[npt.NDArray[np.bool_], F64, npt.NDArray[np.str_]]


def _overlap(folds: Scores) -> bool:
    index = np.concatenate([i for i, _ in folds]) if folds else np.zeros(0, np.int64)
    return index.size != np.unique(index).size


def _figures_of(parts: Sequence[Part]) -> tuple[float, float]:
    whole = [(y, s) for y, s, _ in parts if y.any() and not y.all()]
    if not whole:
        return float("nan"), float("nan")
    return (
        float(np.mean([roc_auc_score(y, s) for y, s in whole])),
        float(np.mean([balanced_accuracy_score(y, s > 0.5) for y, s in whole])),
    )


def _redrawn(part: Part, rng: np.random.Generator) -> Part:
    """Groups of either kind drawn anew, with repetition."""
    y, s, group = part
    index: list[npt.NDArray[np.int64]] = []
    for kind in (True, False):
        names = np.unique(group[y == kind])
        index += [np.flatnonzero((group == name) & (y == kind)) for name in rng.choice(names, len(names))]
    chosen = np.concatenate(index)
    return y[chosen], s[chosen], group[chosen]


def _folders(every: Windows, chosen: Windows) -> dict[str, dict[str, Any]]:
    """What stands in each folder, and how often the judge by lines, trained on all of ``chosen``, calls it a vessel."""
    everywhere, own = np.arange(len(every)), np.arange(len(chosen))
    x = np.concatenate([chosen.lines, every.lines])
    y = np.concatenate([chosen.is_vessel, every.is_vessel])
    told = scores(x, y, own, len(chosen) + everywhere, "lines")
    out = {}
    for name in _names(every.folder):
        index = np.flatnonzero(every.folder == name)
        out[name] = _of_folder(every.take(index)) | {"called_vessel": 100.0 * float(np.mean(told[index] > 0.5))}
    return out


def _of_folder(w: Windows) -> dict[str, Any]:
    return {
        "n_windows": len(w),
        "n_groups": len(set(w.group.tolist())),
        "coherent": float(w.lines[:, 0].mean()),
        "tones": float(w.lines[:, N_TONES].mean()),
        "in_families": float(w.lines[:, 4].mean()),
    }


def _names(words: npt.NDArray[np.str_]) -> list[str]:
    return sorted(set(words.tolist()))


def _origin(row: dict[str, str]) -> tuple[str, str]:
    """Group and site of a recording: its vessel or session, and the collection it comes from."""
    stem = Path(row["file"]).stem
    session = re.sub(r"_part\d+$", "", stem)
    if row["cls"].startswith(VESSEL):
        known = row["vessel"] not in ("", "unknown")
        return (row["vessel"] if known else session), re.sub(r"(5s)?_.*", "", stem)
    site = re.sub(r"[_T]?\d{6,}.*", "", session)
    return site, site


def _figures(x: npt.NDArray[np.float32], fs: int, finder: TrackFinder) -> Iterator[tuple[F64, F64]]:
    n = round(SECONDS * fs)
    edges = np.geomspace(*BAND_HZ, N_BANDS + 1)
    freq = np.fft.rfftfreq(n, 1.0 / fs)
    for start in range(0, len(x) - n + 1, n):
        part = x[start : start + n] - x[start : start + n].mean()
        windows = list(windows_of(SPEC, fs, part[None]))
        if not windows:
            continue
        power = np.abs(np.fft.rfft(part * np.hanning(n))) ** 2
        bands = [power[(freq >= a) & (freq < b)].mean() for a, b in itertools.pairwise(edges)]
        level = 10.0 * np.log10(np.array(bands) + 1e-20)
        tracks = finder.find(windows[-1].spectrum_db[0])
        coherent = tracks.evidence >= COHERENT
        in_families = np.isfinite(families(tracks.row[coherent] * SPEC.bin_hz, 1.5)).sum()
        yield level - level.mean(), np.array([
            coherent.sum(), (tracks.evidence >= EVEN_EVIDENCE).sum(),
            np.log1p(float(tracks.evidence[coherent].sum())), np.log1p(float(tracks.evidence.max(initial=0.0))),
            in_families,
        ], np.float64)  # fmt: skip
