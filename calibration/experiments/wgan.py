r"""Do generated windows help a classifier? Trained with and without them, tested on recordings only, in pairs.

One cell is a seed and a number ``n`` of real windows per label: ``n / 2`` fresh training recordings of each label, two
windows of each, that share no sample. On these the generator is trained (one for all labels) and as many windows are
generated as are real; then the same classifier is trained with the same number of steps on the real windows alone
(``none``), with the generated beside them (``modern``, ``text``), or with the simplest rival (``remix``). All are
tested on the same windows of test recordings (indices below 1000); differences are taken cell by cell, intervals over
seeds.

Results go to a file cell by cell, so that a run goes on where it was stopped.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from calibration.dataset import AMBIENT, Progress, collect, no_progress, simulated_clips
from calibration.experiments.wgan_classifier import accuracy, embeddings, train_classifier
from calibration.experiments.wgan_remix import remix
from calibration.gan_quality import kid, memorisation, prdc, tonal_distance
from calibration.scenarios import Scenario, SeedSpace, scenario_named
from models.dataset import Dataset
from models.errors import InputError, UsageError
from models.features import FeatureSpec
from models.spec_cnn import SpecCnn
from models.wgan_generated import Generated, refuse_generated, with_generated
from models.wgan_train import GanOptions, train_generator

__all__ = ["METHODS", "Plan", "load_windows", "measure", "paired"]

METHODS = ("none", "remix", "modern", "text")
#: First recording index of each purpose, none used elsewhere; a seed's training recordings are this plus 1000 a seed.
TRAIN_FIRST, EMBEDDER_FIRST, REFERENCE_FIRST, TEST_FIRST = 200_000, 300_000, 310_000, 500
#: Recordings per label for the embedding network, for the reference of the quality figures, and for the test.
N_EMBEDDER, N_REFERENCE, N_TEST = 40, 50, 40
SECONDS, PER_RECORDING, EVERY = 20.0, 2, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to measure."""

    scenario: str = "wide"
    sizes: tuple[int, ...] = (20, 50, 100)
    """Real windows per label."""
    n_seeds: int = 5
    methods: tuple[str, ...] = METHODS
    gan_steps: int = 250
    """Critic steps of each generator."""
    classifier_steps: int = 100

    def __post_init__(self) -> None:
        if wrong := [m for m in self.methods if m not in METHODS]:
            raise UsageError(f"no method '{wrong[0]}': choose of {', '.join(METHODS)}")
        if self.n_seeds < 1 or self.gan_steps < 1 or self.classifier_steps < 1:
            raise UsageError("numbers of seeds and of steps must be at least 1")
        if not self.sizes or any(n < 6 or n % PER_RECORDING or n > 1000 for n in self.sizes):
            raise UsageError(f"windows per label {self.sizes}: must be even and lie in 6..1000")


@dataclass(frozen=True, slots=True, eq=False)
class _Fixed:
    """What all cells share."""

    test: Dataset
    reference: Dataset
    embedder: SpecCnn


def load_windows(
    scenario: Scenario, space: SeedSpace, first: int, n_recordings: int, progress: Progress = no_progress
) -> Dataset:
    """Two windows of each of ``n_recordings`` simulated recordings per label, recording by recording."""
    spec = FeatureSpec()
    labels = (*scenario.labels, AMBIENT)
    clips = simulated_clips(scenario, space, n_recordings, SECONDS, first=first, fs=spec.fs_model)
    w = collect(clips, spec, labels, every=EVERY, what=f"{space} windows", progress=progress)
    keep = np.concatenate([np.flatnonzero(w.clip == i)[:PER_RECORDING] for i in range(len(w.clips))])
    w = w.take(keep)
    return Dataset(w.features, w.y, w.groups, labels)


def measure(plan: Plan, path: Path | None = None, *, progress: Progress = no_progress) -> dict[str, Any]:
    """Fill all cells that ``path`` does not hold yet and sum up.

    Parameters
    ----------
    path
        JSON of the results, read first and written after each cell; None for memory only.

    Raises
    ------
    InputError
        If the file cannot be read or written.
    UsageError
        If it holds results of other settings.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    store = _Store(plan, path)
    # most windows first, then fewest, and the recipe of the paper's text last: a stopped run answers the most it can
    sizes = sorted(plan.sizes, key=lambda n: (n != max(plan.sizes), n))
    order = [(n, m, s) for group in (("none", "remix", "modern"), ("text",)) for n in sizes
             for s in range(plan.n_seeds) for m in group if m in plan.methods]  # fmt: skip
    missing = [(n, m, s) for n, m, s in order if _key(n, m, s) not in store.cells]
    if missing:
        scenario = scenario_named(plan.scenario)
        fixed = _prepare(scenario, plan, progress)
        real: tuple[tuple[int, int], Dataset] | None = None
        for i, (n, method, seed) in enumerate(missing):
            progress("cells", i, len(missing))
            if real is None or real[0] != (n, seed):
                first = TRAIN_FIRST + 1000 * seed
                real = (n, seed), load_windows(scenario, "train", first, n // PER_RECORDING)
            store.add(_key(n, method, seed), _cell(real[1], method, seed, plan, fixed))
        progress("cells", len(missing), len(missing))
    return {**store.about, "cells": store.cells, "table": table(plan, store.cells)}


def _prepare(scenario: Scenario, plan: Plan, progress: Progress) -> _Fixed:
    other = load_windows(scenario, "train", EMBEDDER_FIRST, N_EMBEDDER, progress)
    embedder = train_classifier(other, 2 * plan.classifier_steps, seed=0)
    reference = load_windows(scenario, "train", REFERENCE_FIRST, N_REFERENCE, progress)
    test = load_windows(scenario, "test", TEST_FIRST, N_TEST, progress)
    refuse_generated(test.groups, "a test")
    return _Fixed(test, reference, embedder)


def _cell(real: Dataset, method: str, seed: int, plan: Plan, fixed: _Fixed) -> dict[str, float]:
    made = _make(real, method, seed, plan)
    data = real if made is None else with_generated(real, made)
    network = train_classifier(data, plan.classifier_steps, seed=seed)
    cell = {"accuracy": 100.0 * accuracy(network, fixed.test)}
    cell.update(_quality(real, made, fixed))
    return cell


def _make(real: Dataset, method: str, seed: int, plan: Plan) -> Generated | None:
    """As many windows as ``real`` holds, of the same labels; None for no augmentation."""
    if method == "none":
        return None
    if method == "remix":
        return remix(real, real.labels.index(AMBIENT), seed)
    options = GanOptions.preset("modern" if method == "modern" else "text", seed=seed, n_steps=plan.gan_steps)
    spec = FeatureSpec()
    return train_generator(real, options, row_lo=spec.row_lo, fill=spec.fill).generate(real.y, seed + 1)


def _quality(real: Dataset, made: Generated | None, fixed: _Fixed) -> dict[str, float]:
    """Means over the vessel labels of the generated windows; of the real ones themselves (the floor) without them."""
    rows = []
    for c, label in enumerate(real.labels):
        if label == AMBIENT:
            continue
        train, reference = real.features[real.y == c], fixed.reference.features[fixed.reference.y == c]
        windows = train if made is None else made.to_judge(c)
        e_ref, e = embeddings(fixed.embedder, reference), embeddings(fixed.embedder, windows)
        row = {"kid": kid(e_ref, e), "tonal_rows": tonal_distance(reference, windows),
               **dataclasses.asdict(prdc(e_ref, e))}  # fmt: skip
        if made is not None:
            m = memorisation(windows, train, reference)
            row |= {"copied": 100.0 * m.share, "nearest_ratio": m.median_ratio, "real_nearest_ratio": m.real_ratio}
        rows.append(row)
    means = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
    return {k: v for k, v in means.items() if np.isfinite(v)}  # no line found: no distance


def table(plan: Plan, cells: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Rows of the answer: means over the seeds at hand, and paired differences to ``none``."""
    rows = []
    for n in plan.sizes:
        for method in plan.methods:
            at = {s: cells[k] for s in range(plan.n_seeds) if (k := _key(n, method, s)) in cells}
            if not at:
                continue
            keys = sorted(set.intersection(*(set(c) for c in at.values())))
            row: dict[str, Any] = {"windows": n, "method": method, "n_seeds": len(at)}
            row |= {k: float(np.mean([c[k] for c in at.values()])) for k in keys}
            both = [s for s in at if _key(n, "none", s) in cells]
            if method != "none" and len(both) > 1:
                d = [at[s]["accuracy"] - cells[_key(n, "none", s)]["accuracy"] for s in both]
                row["difference"], row["low"], row["high"] = paired(d)
            rows.append(row)
    return rows


def paired(differences: npt.ArrayLike) -> tuple[float, float, float]:
    """Mean of paired differences and its 95 % interval (Student's t).

    Raises
    ------
    ValueError
        If there are fewer than two.
    """
    d = np.asarray(differences, np.float64)
    if d.size < 2:
        raise ValueError(f"{d.size} differences: an interval needs at least two")
    half = float(stats.t.ppf(0.975, d.size - 1) * d.std(ddof=1) / np.sqrt(d.size))
    return float(d.mean()), float(d.mean()) - half, float(d.mean()) + half


def _key(n: int, method: str, seed: int) -> str:
    return f"{n}/{method}/{seed}"


class _Store:
    """Cells in a file."""

    def __init__(self, plan: Plan, path: Path | None) -> None:
        self._path = path
        self.about: dict[str, Any] = {
            "experiment": "wgan", "simulated": True, "scenario": plan.scenario,
            "version": scenario_named(plan.scenario).version, "gan_steps": plan.gan_steps,
            "classifier_steps": plan.classifier_steps, "n_test_recordings": N_TEST,
        }  # fmt: skip
        self.cells: dict[str, dict[str, float]] = {}
        if path is None or not path.exists():
            return
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            other: Sequence[str] = [k for k, v in self.about.items() if held[k] != v]
            self.cells = dict(held["cells"])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise InputError(f"{path}: not written by this experiment, or damaged: {e}") from e
        if other:
            raise UsageError(f"{path}: holds results with another {', '.join(other)}: choose another file")

    def add(self, key: str, cell: dict[str, float]) -> None:
        self.cells[key] = cell
        if self._path is None:
            return
        part = self._path.with_name(self._path.name + ".part")
        try:
            part.write_text(json.dumps({**self.about, "cells": self.cells}, indent=1) + "\n", encoding="utf-8")
            part.replace(self._path)
        except OSError as e:
            raise InputError(f"{self._path}: cannot be written: {e.strerror or e}") from e
