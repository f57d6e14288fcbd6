"""How good a calibrated network is on windows with known labels, and with known tonals where truth is at hand.

What is scored is what the daemon would publish: the mask of the detection with the true label, or, where it was not
heard, of the first detection. A vessel window without a detection publishes no signature, so its mask is empty: all
noise removed, all tones overwritten. The threshold-free measures and the tone AUC use the map of the true label.

For the accuracy a window is named by its first detection; without one it is ambient, unless it was rejected and the
network itself names a class. Rejection as `unknown` is reported on its own.

All figures in per cent, but for ``intersecting_regions`` (a count of lines), ``tone_auc`` and ``auroc`` (0..1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from calibration.dataset import AMBIENT, Progress, WindowSet, no_progress
from calibration.masks import minmax
from calibration.metrics import WindowTruth, foreign_lines, mask_metrics, mean_by_recording, score_metrics
from calibration.rows import finite, per_cent, table_row
from calibration.thresholds import auroc
from models.bundle import Bundle, Thresholds
from models.features import FeatureSpec
from models.score_map import vessel_map
from models.verdict import Verdict

__all__ = ["FIXED_CUTS", "Calibrated", "Ears", "calibrated", "evaluate", "named_index"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: Cuts of the paper's Table I, on the map stretched to 0..1.
FIXED_CUTS = (0.65, 0.75, 0.85)
BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """What evaluation needs to know of a bundle."""

    labels: tuple[str, ...]
    spec: FeatureSpec
    thresholds: Thresholds
    line_tables_hz: Mapping[str, Sequence[float]]
    """Canonical lines of each class, as far as known."""


def calibrated(bundle: Bundle) -> Calibrated:
    """What evaluation needs to know of a bundle."""
    tables: Mapping[str, list[float]] = bundle.manifest.training.get("line_tables_hz", {})
    return Calibrated(bundle.labels, bundle.spec, bundle.thresholds, tables)


class Ears(Protocol):
    """The part of `models.explainer.Explainer` that is used."""

    def explain(self, features: F32, spectra_db: F32 | None = None) -> list[Verdict]:
        """One verdict per window."""

    def explain_all(self, features: F32, cls: npt.ArrayLike, spectra_db: F32 | None = None) -> tuple[F32, F32]:
        """``cam`` and score map of each window for the class asked."""


def named_index(verdict: Verdict, labels: Sequence[str]) -> int:
    """Index of the label that the window is named."""
    if verdict.detections:
        return labels.index(verdict.detections[0].label)
    return int(verdict.probabilities.argmax()) if verdict.unknown else labels.index(AMBIENT)


def evaluate(bundle: Calibrated, ears: Ears, windows: WindowSet, *, progress: Progress = no_progress) -> dict[str, Any]:
    """Figures of a bundle on a set of windows, ready for JSON.

    Parameters
    ----------
    windows
        Windows with ``y = -1`` are strangers: they count for rejection only.

    Returns
    -------
    dict
        ``accuracy`` and the like; ``unknown``; ``signature`` and ``vessel`` (None without truth) with one map of
        figures per operating point: ``threshold_free``, ``conformal_86`` and so on, and for signatures ``cut_65`` and
        so on; ``per_class``.
    """
    tables = bundle.line_tables_hz
    spec = windows.spec
    foreign = {
        label: foreign_lines(tables, label, spec.bin_hz, spec.n_freq) for label in bundle.labels if label != AMBIENT
    }
    known = windows.y >= 0
    judged = np.flatnonzero(known & (windows.y != windows.labels.index(AMBIENT)) & windows.has_truth)
    named = np.empty(len(windows), np.int64)
    rejected, published = np.zeros(len(windows), bool), np.zeros(len(windows), bool)
    distance, heard_any = np.empty(len(windows)), np.zeros(len(windows), bool)
    unexplained = np.empty(len(windows))
    rows: dict[int, dict[str, dict[str, float]]] = {}
    vessels: dict[int, dict[str, dict[str, float]]] = {}
    wanted = frozenset(judged.tolist())
    for first in range(0, len(windows), BATCH):
        progress("windows judged", first, len(windows))
        index = np.arange(first, min(first + BATCH, len(windows)))
        spectra = None if windows.spectrum_db is None else windows.spectrum_db[index]
        verdicts = ears.explain(windows.features[index], spectra)
        asked = np.maximum(windows.y[index], 0)
        asked[asked == windows.labels.index(AMBIENT)] = 0
        own = ears.explain_all(windows.features[index], asked, spectra)[1] if wanted & set(index.tolist()) else None
        for j, (i, verdict) in enumerate(zip(index.tolist(), verdicts, strict=True)):
            named[i] = named_index(verdict, bundle.labels)
            rejected[i], distance[i], unexplained[i] = verdict.unknown, verdict.distance, verdict.unexplained
            heard_any[i] = windows.y[i] >= 0 and bundle.labels[windows.y[i]] in {d.label for d in verdict.detections}
            published[i] = bool(verdict.detections)
            if i in wanted:
                assert own is not None
                rows[i] = _judge(bundle, windows, i, verdict, own[j], foreign)
                if bundle.thresholds.vessel and verdict.tracks is not None:
                    vessels[i] = _judge_vessel(bundle, windows, i, verdict, foreign)
    progress("windows judged", len(windows), len(windows))
    result = _accuracy(bundle, windows.take(known), named[known])
    vessel_windows = windows.y != windows.labels.index(AMBIENT)
    strange = np.where(unexplained > 0.0, unexplained, 0.0) if bundle.thresholds.vessel else distance
    result["unknown"] = {
        "rejected_known": per_cent(rejected[known & vessel_windows]),
        "rejected_ambient": per_cent(rejected[known & ~vessel_windows]),
        "rejected_strange": per_cent(rejected[~known]),
        "named_strange": per_cent(published[~known]),
        "auroc": finite(auroc(strange[known & vessel_windows], strange[~known])),
        "auroc_ambient": finite(auroc(strange[known & ~vessel_windows], strange[~known])),
    }
    result["heard"] = per_cent(heard_any[known & vessel_windows])
    groups = windows.groups
    result["signature"] = _signature(list(rows.values()), [groups[i] for i in rows]) if rows else None
    result["vessel"] = _signature(list(vessels.values()), [groups[i] for i in vessels]) if vessels else None
    for c, label in enumerate(bundle.labels):
        entry, mine = result["per_class"][label], windows.y == c
        own_rows = [i for i in rows if mine[i]]
        entry["rejected"] = per_cent(rejected[mine])
        entry["signature"] = (
            _signature([rows[i] for i in own_rows], [groups[i] for i in own_rows]) if own_rows else None
        )
    return result


def _truth_of(windows: WindowSet, i: int) -> tuple[str, WindowTruth]:
    label, clip = windows.labels[windows.y[i]], windows.clips[windows.clip[i]]
    recorded = windows.truths[windows.clip[i]]
    assert recorded is not None
    return label, WindowTruth.of(recorded, windows.spec, clip.fs, int(windows.first_sample[i]), label)


def _judge(
    bundle: Calibrated,
    windows: WindowSet,
    i: int,
    verdict: Verdict,
    own: F32,
    foreign: Mapping[str, npt.NDArray[np.float64]],
) -> dict[str, dict[str, float]]:
    """All measures of one window's signature: operating point to its figures; ``own`` is the map of the true label."""
    label, truth = _truth_of(windows, i)
    out = {"threshold_free": score_metrics(own, truth)}
    heard = next((d for d in verdict.detections if d.label == label), next(iter(verdict.detections), None))
    empty = np.zeros(own.shape, bool)
    for nominal in bundle.thresholds.mix[label]:
        kept = empty if heard is None else heard.score > bundle.thresholds.mix[heard.label][nominal]
        out[f"conformal_{round(100 * float(nominal))}"] = mask_metrics(kept, truth, foreign[label])
    stretched = None if heard is None else minmax(heard.score)
    for cut in FIXED_CUTS:
        kept = empty if stretched is None else stretched > cut
        out[f"cut_{round(100 * cut)}"] = mask_metrics(kept, truth, foreign[label])
    return out


def _judge_vessel(
    bundle: Calibrated,
    windows: WindowSet,
    i: int,
    verdict: Verdict,
    foreign: Mapping[str, npt.NDArray[np.float64]],
) -> dict[str, dict[str, float]]:
    """The same for the map of all tracks of a vessel, published whatever was named."""
    label, truth = _truth_of(windows, i)
    assert verdict.tracks is not None
    score = vessel_map(verdict.tracks, verdict.own, windows.spec.n_time, windows.spec.row_lo)
    out = {"threshold_free": score_metrics(score, truth)}
    for nominal, threshold in bundle.thresholds.vessel.items():
        out[f"conformal_{round(100 * float(nominal))}"] = mask_metrics(score > threshold, truth, foreign[label])
    return out


def _signature(rows: Sequence[Mapping[str, Mapping[str, float]]], groups: Sequence[str]) -> dict[str, Any]:
    return {point: table_row(mean_by_recording([row[point] for row in rows], groups)) for point in rows[0]}


def _accuracy(bundle: Calibrated, windows: WindowSet, named: I64) -> dict[str, Any]:
    """Accuracy by window and by recording, whole and per class; confusion with true labels as rows."""
    n = len(bundle.labels)
    hit = named == windows.y
    confusion = np.zeros((n, n), np.int64)
    np.add.at(confusion, (windows.y, named), 1)
    by_clip = {int(c): windows.clip == c for c in np.unique(windows.clip)}
    clip_hit = {c: bool(np.bincount(named[i], minlength=n).argmax() == windows.y[i][0]) for c, i in by_clip.items()}
    per_class = {}
    for c, label in enumerate(bundle.labels):
        own = windows.y == c
        mine = [v for k, v in clip_hit.items() if windows.y[by_clip[k]][0] == c]
        per_class[label] = {
            "accuracy": per_cent(hit[own]),
            "accuracy_recordings": per_cent(mine),
            "n_windows": int(own.sum()),
            "n_recordings": len(mine),
        }
    mean = mean_by_recording([{"a": float(h)} for h in hit], windows.groups).get("a")
    return {
        "accuracy": per_cent(hit),
        "accuracy_se": finite(100.0 * mean.se) if mean else None,
        "accuracy_recordings": per_cent(list(clip_hit.values())),
        "n_windows": len(windows),
        "n_recordings": len(clip_hit),
        "labels": list(bundle.labels),
        "confusion": confusion.tolist(),
        "per_class": per_class,
    }
