"""How good a calibrated network is on windows with known labels, and with known tonals where truth is at hand.

What is scored is what the daemon would publish: the score map of the label the network names. A vessel window taken
for ambient publishes no signature, so its mask is empty: all noise removed, all tones overwritten. The threshold-free
measures and the tone AUC use the map of the true label. Rejection as `unknown` is reported on its own and changes
neither accuracy nor signatures.

All figures in per cent, but for ``intersecting_regions`` (a count of lines), ``tone_auc`` and ``auroc`` (0..1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from calibration.dataset import AMBIENT, Progress, WindowSet, no_progress
from calibration.masks import minmax
from calibration.metrics import Mean, WindowTruth, foreign_lines, mask_metrics, mean_by_recording, score_metrics
from calibration.thresholds import auroc
from models.bundle import Bundle
from models.engines.base import Engine
from models.explainer import nearest
from models.features import FeatureSpec

__all__ = ["FIXED_CUTS", "Calibrated", "Graphs", "Mapped", "calibrated", "evaluate", "score_maps"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: Cuts of the paper's Table I, on the map stretched to 0..1.
FIXED_CUTS = (0.65, 0.75, 0.85)
BATCH = 16
#: Measures that are no ratio.
NO_RATIO = frozenset({"intersecting_regions", "tone_auc"})


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """What evaluation needs to know of a bundle."""

    labels: tuple[str, ...]
    spec: FeatureSpec
    mix_thresholds: Mapping[str, Mapping[str, float]]
    """Label, then nominal share of noise removed, to the threshold on the map."""
    unknown_distance: Mapping[str, float]
    min_probability: Mapping[str, float]
    representatives: F32
    """``(n, n_dims)`` embeddings."""
    line_tables_hz: Mapping[str, Sequence[float]]
    """Canonical lines of each class, as far as known."""

    def is_unknown(self, label_index: int, probability: float, distance: float) -> bool:
        """Whether a window named ``label_index`` is rejected, by the rule of `models.explainer`."""
        label = self.labels[label_index]
        if distance > self.unknown_distance.get(label, math.inf):
            return True
        return label != AMBIENT and probability < self.min_probability[label]


def calibrated(bundle: Bundle) -> Calibrated:
    """What evaluation needs to know of a bundle."""
    t = bundle.thresholds
    tables: Mapping[str, list[float]] = bundle.manifest.training.get("line_tables_hz", {})
    return Calibrated(
        bundle.labels, bundle.spec, t.mix, t.unknown_distance, t.min_probability, bundle.representatives.embeddings,
        tables,
    )  # fmt: skip


class Graphs(Protocol):
    """The part of `Engine` that is used; the torch reference offers it too."""

    def run(self, graph: str, tensors: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
        """Run one graph."""


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """One batch, classified, with the score maps of the labels asked for."""

    index: I64
    """``(b,)`` windows of the set."""
    probs: F32
    """``(b, n_labels)``"""
    embedding: F32
    """``(b, n_dims)``"""
    cam: F32
    """``(b, n_freq, n_time)`` for the label asked for; zeros where none was."""
    mix: F32
    """As ``cam``: image CAM and class mask."""
    mix_named: F32
    """As ``mix``, for the label the network names; zeros where that is ambient."""


def score_maps(
    engine: Engine | Graphs, windows: WindowSet, asked: npt.ArrayLike, *, progress: Progress = no_progress
) -> Iterator[Mapped]:
    """Classify all windows and explain them for the label index ``asked`` ``(n,)`` (-1: do not)."""
    wanted = np.asarray(asked, np.int64)
    ambient = windows.labels.index(AMBIENT)
    for first in range(0, len(windows), BATCH):
        progress("score maps", first, len(windows))
        index = np.arange(first, min(first + BATCH, len(windows)))
        features = windows.features[index]
        out = {k: np.array(v) for k, v in engine.run("classify", {"features": features}).items()}
        named = out["probs"].argmax(axis=1)
        ask = wanted[index]
        cam, mix = _explain(engine, out["trunk"], features, ask)
        again = np.where((named == ambient) | (named == ask) | (ask < 0), -1, named)
        _, mix_other = _explain(engine, out["trunk"], features, again)
        mix_named = np.where((named == ask)[:, None, None], mix, mix_other)
        yield Mapped(index, out["probs"], out["embedding"], cam, mix, mix_named)
    progress("score maps", len(windows), len(windows))


def _explain(engine: Engine | Graphs, trunk: F32, features: F32, cls: I64) -> tuple[F32, F32]:
    shape = (len(features), *features.shape[2:])
    cam, mix = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    chosen = np.flatnonzero(cls >= 0)
    if chosen.size:
        tensors = {"trunk": trunk[chosen], "features": features[chosen], "cls": cls[chosen].astype(np.int32)}
        out = engine.run("explain", tensors)
        cam[chosen], mix[chosen] = out["cam"], out["mix"]
    return cam, mix


def evaluate(
    bundle: Calibrated, engine: Engine | Graphs, windows: WindowSet, *, progress: Progress = no_progress
) -> dict[str, Any]:
    """Score a calibrated network; the map is ready for JSON.

    Windows with ``y = -1`` (labels the network does not know) only enter the figures on `unknown`.

    Returns
    -------
    dict
        ``accuracy`` and ``accuracy_se`` (over windows, error over recordings), ``accuracy_recordings``, ``confusion``,
        ``unknown``, ``signature`` (None without truth) and ``per_class``.
    """
    vessel = np.array([label != AMBIENT for label in bundle.labels])
    has_truth = np.array([windows.truths[c] is not None for c in windows.clip], bool)
    judged = (windows.y >= 0) & vessel[windows.y] & has_truth
    foreign = {
        label: foreign_lines(bundle.line_tables_hz, label, bundle.spec.bin_hz, bundle.spec.n_freq)
        for label in bundle.labels
    }
    probs = np.zeros((len(windows), len(bundle.labels)), np.float32)
    distance = np.zeros(len(windows), np.float32)
    rows: list[dict[str, dict[str, float]]] = []
    row_window: list[int] = []
    for batch in score_maps(engine, windows, np.where(judged, windows.y, -1), progress=progress):
        probs[batch.index] = batch.probs
        distance[batch.index] = nearest(batch.embedding, bundle.representatives)[1]
        for j in np.flatnonzero(judged[batch.index]):
            i = int(batch.index[j])
            named = bundle.labels[int(batch.probs[j].argmax())]
            rows.append(_judge(bundle, windows, i, named, batch.mix[j], batch.mix_named[j], foreign))
            row_window.append(i)
    named_index = probs.argmax(axis=1)
    rejected = np.array(
        [bundle.is_unknown(int(c), float(p[c]), float(d)) for c, p, d in zip(named_index, probs, distance, strict=True)]
    )
    known = windows.y >= 0
    result = _accuracy(bundle, windows.take(known), probs[known])
    result["unknown"] = {
        "rejected_known": _per_cent(rejected[known]),
        "rejected_strange": _per_cent(rejected[~known]),
        "ambient_strange": _per_cent(~vessel[named_index[~known]]),
        "auroc": _finite(auroc(distance[known & vessel[windows.y]], distance[~known])),
    }
    groups = windows.groups
    result["signature"] = _signature(rows, [groups[i] for i in row_window]) if rows else None
    for c, label in enumerate(bundle.labels):
        own = [k for k, i in enumerate(row_window) if windows.y[i] == c]
        entry = result["per_class"][label]
        mine = windows.y == c
        entry["rejected"] = _per_cent(rejected[mine])
        entry["signature"] = _signature([rows[k] for k in own], [groups[row_window[k]] for k in own]) if own else None
    return result


def _judge(
    bundle: Calibrated,
    windows: WindowSet,
    i: int,
    named: str,
    mix: F32,
    mix_named: F32,
    foreign: Mapping[str, npt.NDArray[np.float64]],
) -> dict[str, dict[str, float]]:
    """All measures of one window: operating point to its figures."""
    label, clip = windows.labels[windows.y[i]], windows.clips[windows.clip[i]]
    recorded = windows.truths[windows.clip[i]]
    assert recorded is not None
    truth = WindowTruth.of(recorded, windows.spec, clip.fs, int(windows.first_sample[i]), label)
    out = {"threshold_free": score_metrics(mix, truth)}
    stretched = minmax(mix_named)
    silent = named == AMBIENT
    for nominal in bundle.mix_thresholds[label]:
        kept = np.zeros(mix.shape, bool) if silent else mix_named > bundle.mix_thresholds[named][nominal]
        out[f"conformal_{round(100 * float(nominal))}"] = mask_metrics(kept, truth, foreign[label])
    for cut in FIXED_CUTS:
        kept = np.zeros(mix.shape, bool) if silent else stretched > cut
        out[f"cut_{round(100 * cut)}"] = mask_metrics(kept, truth, foreign[label])
    return out


def _signature(rows: Sequence[Mapping[str, Mapping[str, float]]], groups: Sequence[str]) -> dict[str, Any]:
    return {point: _flatten(mean_by_recording([row[point] for row in rows], groups)) for point in rows[0]}


def _flatten(means: Mapping[str, Mean]) -> dict[str, float | None]:
    out: dict[str, float | None] = {}
    for key, mean in means.items():
        scale = 1.0 if key in NO_RATIO else 100.0
        out[key], out[f"{key}_se"] = _finite(scale * mean.value), _finite(scale * mean.se)
    return out


def _accuracy(bundle: Calibrated, windows: WindowSet, probs: F32) -> dict[str, Any]:
    """Accuracy by window and by recording, whole and per class; confusion with true labels as rows."""
    n = len(bundle.labels)
    named = probs.argmax(axis=1)
    hit = named == windows.y
    confusion = np.zeros((n, n), np.int64)
    np.add.at(confusion, (windows.y, named), 1)
    by_clip = {int(c): windows.clip == c for c in np.unique(windows.clip)}
    clip_hit = {c: bool(probs[i].mean(axis=0).argmax() == windows.y[i][0]) for c, i in by_clip.items()}
    per_class = {}
    for c, label in enumerate(bundle.labels):
        own = windows.y == c
        mine = [v for k, v in clip_hit.items() if windows.y[by_clip[k]][0] == c]
        per_class[label] = {
            "accuracy": _per_cent(hit[own]),
            "accuracy_recordings": _per_cent(mine),
            "n_windows": int(own.sum()),
            "n_recordings": len(mine),
        }
    mean = mean_by_recording([{"a": float(h)} for h in hit], windows.groups).get("a")
    return {
        "accuracy": _per_cent(hit),
        "accuracy_se": _finite(100.0 * mean.se) if mean else None,
        "accuracy_recordings": _per_cent(list(clip_hit.values())),
        "n_windows": len(windows),
        "n_recordings": len(clip_hit),
        "labels": list(bundle.labels),
        "confusion": confusion.tolist(),
        "per_class": per_class,
    }


def _per_cent(hits: npt.ArrayLike) -> float | None:
    h = np.asarray(hits, np.float64)
    return 100.0 * float(h.mean()) if h.size else None


def _finite(value: float) -> float | None:
    """JSON knows no nan."""
    return value if math.isfinite(value) else None
