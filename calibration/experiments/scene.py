"""What every experiment is run on, and what every method answers: windows in, score maps out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from calibration.dataset import Clip, Progress, WindowSet, collect, no_progress, simulated_clips
from calibration.scenarios import AMBIENT, Scenario
from models.feature_spec import resampler
from models.features import FeatureSpec, windows_of

__all__ = ["FRESH_FIRST", "FRESH_STRIDE", "Method", "Scene", "fresh_clips", "scene_of"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: Recording ``i`` of fresh seed ``n`` has index ``FRESH_FIRST + n * FRESH_STRIDE + i`` of the test space.
FRESH_FIRST, FRESH_STRIDE = 1_000_000, 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Windows with all that any method may want to see of them; one entry per window in each array."""

    windows: WindowSet
    """Features, labels, truth."""
    background_db: F32
    """``(n, n_freq, n_time)``, dB re full scale squared: split-window background under the spectrum."""
    audio: F32
    """``(n, n_samples)`` at ``fs`` Hz: exactly the samples under the window."""
    fs: int
    """Hz; the rate of the clips, one for all."""

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def spec(self) -> FeatureSpec:
        """Front end."""
        return self.windows.spec

    @property
    def spectrum_db(self) -> F32:
        """``(n, n_freq, n_time)``, dB re full scale squared."""
        return self.windows.spectra_of(np.arange(len(self)))

    @property
    def features(self) -> F32:
        """``(n, n_planes, n_freq, n_time)`` in 0..1."""
        return self.windows.features

    def take(self, index: npt.ArrayLike) -> Scene:
        """The windows of ``index`` (indices or a mask)."""
        i = np.asarray(index)
        return Scene(self.windows.take(i), self.background_db[i], self.audio[i], self.fs)


class Method(Protocol):
    """Anything that says how much each cell belongs to a source's tonals."""

    @property
    def name(self) -> str:
        """Short, for tables."""

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Score maps ``(n, n_freq, n_time)``, higher is more tonal; ``cls`` ``(n,)`` is the label each is asked for.

        A method without classes ignores ``cls``. Scores of one method must be comparable between windows, because one
        threshold is set for all of them, on source-free windows.
        """


def fresh_clips(
    scenario: Scenario, seed: int, n_recordings: int, seconds: float, fs: int, labels: Sequence[str]
) -> list[Clip]:
    """``n_recordings`` recordings of each of ``labels`` under a seed that no tuning has seen."""
    first = FRESH_FIRST + seed * FRESH_STRIDE
    clips = simulated_clips(scenario, "test", n_recordings, seconds, first=first, fs=fs)
    return [c for c in clips if c.label in {*labels}]


def scene_of(
    clips: Sequence[Clip],
    spec: FeatureSpec,
    labels: Sequence[str],
    *,
    every: int = 8,
    others: bool = False,
    progress: Progress = no_progress,
) -> Scene:
    """Collect clips of one channel and one rate as `collect` does, and keep spectra and audio too.

    Parameters
    ----------
    clips
        Loaded once more than by `collect`; simulated clips give the same samples again.
    labels
        Labels of the set, ``ambient`` last.
    every
        Every so many-th slot of the grid is kept; 8 shares no sample between windows.
    """
    windows = collect(clips, spec, labels, every=every, others=others, what="test windows", progress=progress)
    fs = clips[0].fs
    if any(c.fs != fs for c in clips):
        raise ValueError(f"clips of several rates: {sorted({c.fs for c in clips})}")
    resampler(spec, fs)  # refuses rates that cannot be used
    background, audio = [], []
    for clip in windows.clips:
        x, _ = clip.load()
        for w in windows_of(spec, fs, x):
            if w.grid_index % every == 0:
                background.append(w.background_db[0])
                audio.append(x[0, w.first_sample : w.first_sample + w.n_samples])
    return Scene(windows, np.stack(background), np.stack(audio), fs)


def ambient_index(labels: Sequence[str]) -> int:
    """Index of the label of source-free windows."""
    return list(labels).index(AMBIENT)
