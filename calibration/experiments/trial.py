"""What methods are judged on: fresh windows with truth, source-free windows for thresholds, and the class asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.dataset import AMBIENT, Progress, no_progress, simulated_clips
from calibration.experiments.scene import FRESH_STRIDE, Scene, fresh_clips, scene_of
from calibration.metrics import WindowTruth, foreign_lines
from calibration.scenarios import Scenario
from models.errors import UsageError
from models.features import FeatureSpec

__all__ = [
    "CALM_FIRST", "MAX_WINDOWS", "MIN_CALM", "N_CALM", "SECONDS", "Namer", "Trial", "make_trial", "source_free",
    "trial_of",
]  # fmt: skip

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

Namer = Callable[[Scene], I64]
"""Windows to the label index ``(n,)`` that each is taken for."""

PER_RECORDING = 2
"""Windows of one recording; at two of them nearly all that a recording can tell is told."""
SECONDS = 17.0
"""Length of a test recording: two windows, eight slots apart."""
CALM_SECONDS = 9.0
"""Length of a source-free recording: one window, so that each is independent of all others."""
N_CALM, MIN_CALM = 96, 24
"""Source-free windows for thresholds, and the least that will do."""
#: First source-free recording used here, in the space ``calibrate``: behind those that bundles are calibrated on.
CALM_FIRST = 20_000_000
MAX_WINDOWS = 4000


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """All that judging a method needs; ``n`` windows in ``test``."""

    test: Scene
    """Windows of vessels, with truth."""
    calm: Scene
    """Source-free windows, one per recording."""
    asked: I64
    """``(n,)`` label that a class-gated method is asked for; ambient: it publishes nothing."""
    truths: tuple[WindowTruth, ...]
    """One per window, as seen by its true label."""
    foreign_rows: tuple[F64, ...]
    """One per window: canonical lines of other classes, in rows."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes, then ambient."""
        return self.test.windows.labels

    @property
    def groups(self) -> tuple[str, ...]:
        """Recording of each window."""
        return self.test.windows.groups

    @property
    def named_rightly(self) -> float:
        """Share of windows asked for their true label."""
        return float(np.mean(self.asked == self.test.windows.y))


def trial_of(test: Scene, calm: Scene, lines_hz: Mapping[str, npt.ArrayLike], asked: npt.ArrayLike) -> Trial:
    """Put truth and canonical lines beside the windows.

    Parameters
    ----------
    test
        Windows whose recordings all have their truth.
    calm
        Source-free windows, at least `MIN_CALM` of as many recordings.
    lines_hz
        Canonical lines of each class, Hz.
    asked
        ``(n,)`` label indices, or one for all.

    Raises
    ------
    ValueError
        If a window has no truth, a label asked for does not exist, or the source-free windows do not suffice.
    """
    w = test.windows
    if any(w.truths[c] is None for c in w.clip) or np.any(w.y < 0):
        raise ValueError("test windows without truth or of no known label")
    if np.any(calm.windows.y != w.labels.index(AMBIENT)):
        raise ValueError("the source-free windows hold windows of a vessel")
    if (n_calm := len(set(calm.windows.groups))) < MIN_CALM:
        raise ValueError(f"source-free windows of {n_calm} recordings: at least {MIN_CALM} are needed")
    ask = np.broadcast_to(np.asarray(asked, np.int64), len(w)).copy()
    if ask.min() < 0 or ask.max() >= len(w.labels):
        raise ValueError(f"labels asked for are {ask.min()}..{ask.max()}, there are 0..{len(w.labels) - 1}")
    truths, foreign = [], []
    for i, (y, c) in enumerate(zip(w.y, w.clip, strict=True)):
        truth, label = w.truths[c], w.labels[y]
        assert truth is not None
        truths.append(WindowTruth.of(truth, w.spec, w.clips[c].fs, int(w.first_sample[i]), label))
        foreign.append(foreign_lines(lines_hz, label, w.spec.bin_hz, w.spec.n_freq))
    return Trial(test, calm, ask, tuple(truths), tuple(foreign))


def source_free(
    scenario: Scenario,
    spec: FeatureSpec,
    labels: Sequence[str],
    n_windows: int = N_CALM,
    *,
    first: int = CALM_FIRST,
    progress: Progress = no_progress,
) -> Scene:
    """Source-free windows of the space ``calibrate``, one of each recording."""
    clips = simulated_clips(scenario, "calibrate", n_windows, CALM_SECONDS, first=first, fs=spec.fs_model)
    return scene_of([c for c in clips if c.label == AMBIENT], spec, labels, progress=progress)


def make_trial(
    scenario: Scenario,
    seed: int,
    n_windows: int,
    spec: FeatureSpec,
    labels: Sequence[str],
    name: Namer | None = None,
    *,
    n_calm: int = N_CALM,
    progress: Progress = no_progress,
) -> Trial:
    """Fresh windows of a seed, in equal shares of each class, two of each recording, and source-free ones.

    Parameters
    ----------
    n_windows
        At least so many; rounded up to whole recordings of each class.
    labels
        Labels of the network, ambient last.
    name
        Who names the windows; None: the true label is asked for.
    n_calm
        Source-free windows.

    Raises
    ------
    UsageError
        If seed or number are out of range, or the scenario has other classes than the network.
    """
    if not 1 <= n_windows <= MAX_WINDOWS:
        raise UsageError(f"number of windows is {n_windows}: must lie in 1..{MAX_WINDOWS}")
    if not 0 <= seed <= 10**9:
        raise UsageError(f"fresh seed is {seed}: must lie in 0..1000000000")
    if not scenario.labels:
        raise UsageError(f"scenario '{scenario.name}' has no vessels: there is nothing to extract")
    if set(labels) != {*scenario.labels, AMBIENT}:
        raise UsageError(
            f"the bundle knows {', '.join(labels)}, but scenario '{scenario.name}' has "
            f"{', '.join((*scenario.labels, AMBIENT))}: give a bundle trained on such classes"
        )
    n_recordings = math.ceil(n_windows / (PER_RECORDING * len(scenario.labels)))
    assert n_recordings <= FRESH_STRIDE
    clips = fresh_clips(scenario, seed, n_recordings, SECONDS, spec.fs_model, scenario.labels)
    test = scene_of(clips, spec, labels, progress=progress)
    calm = source_free(scenario, spec, labels, n_calm, progress=progress)
    lines = {label: scenario.canonical_lines(label) for label in scenario.labels}
    asked = test.windows.y if name is None else name(test)
    return trial_of(test, calm, lines, asked)
