"""Which score finds strange vessels: known and ambient windows against vessels no network was trained on.

Fresh simulated recordings of the scenario's vessels, of its empty sea, of the four frozen strange classes
(`calibration.sets.strangers`) and of strangers anew, one line table per recording (`calibration.strange_vessels`). Each
score is fitted on the training recordings of the bundle's own recipe; its limits, one per label named, are conformal
on recordings of the space ``calibrate``. No stranger and no truth enters any of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.dataset import Progress, collect, no_progress, simulated_clips
from calibration.experiments.scene import FRESH_FIRST, FRESH_STRIDE, fresh_clips
from calibration.experiments.unknown_scores import Score, network_scores
from calibration.experiments.unknowns_real import on_recordings
from calibration.metrics import mean_by_recording
from calibration.open_set import SHARE, fit, limits
from calibration.samples import Sample, held_clips, sample_of
from calibration.scenarios import AMBIENT, Scenario, scenario_named
from calibration.separation import separation
from calibration.sets import EVERY_TEST, EVERY_TRAIN, Recipe, strangers
from calibration.strange_vessels import strange_clips
from models.bundle import Bundle
from models.engines.base import Engine
from models.errors import UsageError
from models.explainer import nearest
from models.line_evidence import line_evidence
from models.rejection import PARTS, Rejection

__all__ = ["KINDS", "Judged", "compare", "matched_limits", "run"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]

#: Kinds of test windows: vessels known, empty sea, four frozen strange classes, a strange vessel per recording.
KINDS = ("known", "ambient", "strangers", "strangers_anew")
SECONDS = 40.0
#: Windows of a test recording of that length.
PER_RECORDING = 4
OURS = "lines + doubt + distance"


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Test windows as the network sees them; one entry per window in each array."""

    sample: Sample
    kind: I64
    """``(n,)`` index into `KINDS`."""

    def of(self, *kinds: str) -> Bits:
        """Windows of some kinds."""
        out: Bits = np.isin(self.kind, [KINDS.index(k) for k in kinds])
        return out


def run(
    bundle: Bundle,
    engine: Engine,
    fresh_seed: int,
    n_windows: int,
    *,
    data: Path | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """The whole table; the map is ready for JSON.

    Parameters
    ----------
    fresh_seed
        Fresh recordings that no tuning has seen.
    n_windows
        Test windows of each kind, rounded up to whole recordings.
    data
        Folder of real recordings, reported apart.

    Raises
    ------
    UsageError
        If the bundle was not made from a scenario of the simulated ocean, or the numbers are out of range.
    """
    recipe = _recipe(bundle)
    if not 8 <= n_windows <= 20_000 or not 0 <= fresh_seed <= 9_000:
        raise UsageError(f"{n_windows} windows of fresh seed {fresh_seed}: must lie in 8..20000 and 0..9000")
    scenario = scenario_named(str(recipe.scenario))
    train, held = _fitted_on(bundle, engine, recipe, scenario, progress)
    test = _test(bundle, engine, scenario, fresh_seed, n_windows, progress)
    ours = fit(train, held, bundle.labels, bundle.spec)
    scores: dict[str, Score] = {OURS: _ours(ours), **_parts_alone(ours)}
    scores |= network_scores(train, len(bundle.labels), bundle.representatives.embeddings)
    return {
        "scenario": scenario.name,
        "synthetic": True,
        "fresh_seed": fresh_seed,
        "bundle": bundle.id,
        "share": SHARE,
        "n_windows": {k: int(test.of(k).sum()) for k in KINDS},
        "n_recordings": {k: len(np.unique(test.sample.groups[test.of(k)])) for k in KINDS},
        "n_held": {"windows": len(held), "recordings": len(np.unique(held.groups))},
        "named_ambient": {
            k: 100.0 * float(np.mean(test.sample.named[test.of(k)] == bundle.labels.index(AMBIENT))) for k in KINDS
        },
        "shipped_rule": _rates(_shipped_rule(bundle, test.sample), test),
        "methods": compare(scores, held, test, bundle.labels),
        "cost_ms": _cost(ours, bundle, test.sample),
        "real": None if data is None else on_recordings(bundle, engine, ours, data, progress=progress),
    }  # fmt: skip


def compare(
    scores: Mapping[str, Score], held: Sample, test: Judged, labels: Sequence[str], *, n_boot: int = 200
) -> dict[str, dict[str, Any]]:
    """Per score: AUROC and FPR95 against each kind of stranger, and decisions at two sorts of limits.

    ``conformal``: limits from ``held`` alone, as at sea. ``matched``: limits set on the test windows themselves, the
    least at which no more than `SHARE` of the known and of the ambient windows are rejected: for comparison only.
    """
    ambient = list(labels).index(AMBIENT)
    out: dict[str, dict[str, Any]] = {}
    for name, score in scores.items():
        known, s = score(held), score(test.sample)
        named = test.sample.named
        row: dict[str, Any] = {}
        for strange in KINDS[2:]:
            for base in (("known",), ("ambient",), ("known", "ambient")):
                chosen = test.of(*base, strange)
                found = separation(
                    s[chosen], test.of(strange)[chosen], test.sample.groups[chosen], n_boot=n_boot
                )  # fmt: skip
                row[f"{'_'.join(base)}_vs_{strange}"] = {
                    "auroc": found.auroc, "auroc_se": found.auroc_se,
                    "fpr95": 100.0 * found.fpr95, "fpr95_se": 100.0 * found.fpr95_se,
                }  # fmt: skip
        cut = limits(known, held.named, len(labels), SHARE)
        row["conformal"] = _rates(s > cut[named], test)
        row["matched"] = _rates(s > matched_limits(s, named == ambient, test)[(named == ambient).astype(int)], test)
        out[name] = row
    return out


def matched_limits(scores: F64, named_ambient: Bits, test: Judged, share: float = SHARE) -> F64:
    """Limits ``(2,)`` for windows named a vessel and named ambient: the least that reject at most ``share`` of each.

    An ambient window named a vessel is judged by the first limit, a known one named ambient by the second, so the two
    are found in turn until they stand. Where such misnamed windows alone exceed the share, none named right is rejected
    and the share stays exceeded: the rates beside the figure tell.
    """
    known, sea = test.of("known"), test.of("ambient")
    cut = np.array([np.inf, np.inf])
    for _ in range(20):
        before = cut.copy()
        for side, (own, names) in enumerate(((known, ~named_ambient), (sea, named_ambient))):
            elsewhere = int(np.count_nonzero(scores[own & ~names] > cut[1 - side]))
            allowed = max(int(share * own.sum() + 1e-9) - elsewhere, 0)
            values = np.sort(scores[own & names])[::-1]
            cut[side] = values[allowed] if allowed < values.size else -np.inf
        if np.array_equal(before, cut):
            break
    return cut


def _recipe(bundle: Bundle) -> Recipe:
    stored = bundle.manifest.training.get("recipe")
    if not isinstance(stored, Mapping) or stored.get("scenario") is None:
        raise UsageError(f"bundle {bundle.path}: not made from a scenario of the simulated ocean, which this needs")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    try:
        return Recipe(**values)
    except TypeError as e:
        raise UsageError(f"bundle {bundle.path}: its recipe is none of this version: {e}") from e


def _fitted_on(
    bundle: Bundle, engine: Engine, recipe: Recipe, scenario: Scenario, progress: Progress
) -> tuple[Sample, Sample]:
    """Training windows of the recipe, and held-out ones of the space ``calibrate``."""
    fs, n, first = bundle.spec.fs_model, recipe.n_recordings, recipe.seed * 100_000
    train = simulated_clips(scenario, "train", n, recipe.seconds, first=first, fs=fs)
    held = held_clips(scenario, SECONDS, fs, seed=recipe.seed)
    samples = []
    for what, clips in (("training windows", train), ("held-out windows", held)):
        windows = collect(clips, bundle.spec, bundle.labels, every=EVERY_TRAIN, what=what, progress=progress)
        samples.append(sample_of(engine, windows))
    return samples[0], samples[1]


def _test(bundle: Bundle, engine: Engine, scenario: Scenario, seed: int, n_windows: int, progress: Progress) -> Judged:
    """Fresh windows of all kinds."""
    fs = bundle.spec.fs_model
    n = -(-n_windows // PER_RECORDING)
    per_class = -(-n // len(scenario.classes))
    sea = strangers(scenario)
    clips = {
        "known": fresh_clips(scenario, seed, per_class, SECONDS, fs, scenario.labels),
        "ambient": fresh_clips(scenario, seed, n, SECONDS, fs, [AMBIENT]),
        "strangers": fresh_clips(sea, seed, per_class, SECONDS, fs, sea.labels),
        "strangers_anew": strange_clips(
            scenario, "test", n, SECONDS, first=FRESH_FIRST + seed * FRESH_STRIDE, fs=fs
        ),
    }  # fmt: skip
    every = [c for k in KINDS for c in clips[k]]
    of_clip = np.repeat(np.arange(len(KINDS)), [len(clips[k]) for k in KINDS])
    windows = collect(
        every, bundle.spec, bundle.labels, every=EVERY_TEST, others=True, what="test windows", progress=progress
    )
    return Judged(sample_of(engine, windows), of_clip[windows.clip].astype(np.int64))


def _ours(rejection: Rejection) -> Score:
    return lambda s: rejection.score(s.logits, s.embedding, s.evidence)


def _parts_alone(rejection: Rejection) -> dict[str, Score]:
    """Each part of our score by itself, centred and scaled as in the sum."""
    out: dict[str, Score] = {}
    for i, part in enumerate(PARTS):
        weight = np.zeros(len(PARTS))
        weight[i] = 1.0
        alone = Rejection.from_arrays(rejection.labels, rejection.to_arrays() | {"weight": weight})
        out[f"{part} alone"] = _ours(alone)
    return out


def _shipped_rule(bundle: Bundle, s: Sample) -> Bits:
    """What the thresholds of the bundle call unknown, see `models.explainer`."""
    t, named = bundle.thresholds, s.named
    p = np.exp(s.logits - s.logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    reach = np.array([t.unknown_distance.get(label, np.inf) for label in bundle.labels])
    least = np.array([0.0 if label == AMBIENT else t.min_probability.get(label, 0.0) for label in bundle.labels])
    distance = nearest(s.embedding.astype(np.float32), bundle.representatives.embeddings)[1]
    out: Bits = (distance > reach[named]) | (p[np.arange(len(p)), named] < least[named])
    return out


def _rates(unknown: Bits, test: Judged) -> dict[str, float]:
    """Per cent called unknown of each kind, with standard errors over recordings."""
    out: dict[str, float] = {}
    for kind in KINDS:
        own = np.flatnonzero(test.of(kind))
        mean = mean_by_recording([{"u": float(unknown[i])} for i in own], [int(test.sample.groups[i]) for i in own])
        out[kind], out[f"{kind}_se"] = 100.0 * mean["u"].value, 100.0 * mean["u"].se
    return out


def _cost(rejection: Rejection, bundle: Bundle, s: Sample, n: int = 100) -> dict[str, float]:
    """Milliseconds for one window, median of ``n``, alone in its batch."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.0, 1.0, (1, *bundle.spec.shape)).astype(np.float32)
    spent: dict[str, list[float]] = {"line_evidence": [], "score": []}
    for i in range(n):
        j = slice(i % len(s), i % len(s) + 1)
        start = time.perf_counter()
        line_evidence(x, bundle.spec)
        middle = time.perf_counter()
        rejection.unknown(s.logits[j], s.embedding[j], s.evidence[j])
        spent["line_evidence"].append(1e3 * (middle - start))
        spent["score"].append(1e3 * (time.perf_counter() - middle))
    return {k: float(np.median(v)) for k, v in spent.items()}
