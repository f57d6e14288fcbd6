"""Windows for training, calibration and test, from the simulated ocean or from recordings, by the one front end.

A *clip* is one recording that can be loaded: simulated or a file. Windows remember their clip, so that splits go by
group of clips (vessel, source file, seed), never by window, and truth finds its window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration import recordings
from calibration.ocean import SeedSpace, simulate
from calibration.recordings import Refused
from calibration.scenarios import AMBIENT, Scenario
from calibration.truth import Truth
from models.errors import AudioFormatError, InputError, UsageError
from models.features import FeatureSpec, windows_of

__all__ = ["AMBIENT", "Clip", "Progress", "WindowSet", "clips_of", "collect", "no_progress", "simulated_clips", "split"]

F32 = npt.NDArray[np.float32]

Progress = Callable[[str, int, int], None]
"""Told of each step: what is done, how much, of how much."""


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: simulated, or a file."""

    name: str
    label: str
    group: str
    """Clips of one group never part in a split."""
    fs: int
    load: Callable[[], tuple[F32, Truth | None]] = field(repr=False)
    """Samples ``(n_channels, n_samples)`` and the truth where it is known."""


def simulated_clips(
    scenario: Scenario, space: SeedSpace, n_recordings: int, seconds: float, *, first: int = 0, fs: int = 2000
) -> list[Clip]:
    """``n_recordings`` clips of ``seconds`` s for each label of the scenario and for ambient.

    Parameters
    ----------
    first
        Index of the first recording within the seed space, so that two sets of one space share none.
    """
    if n_recordings < 1:
        raise UsageError(f"number of recordings per class is {n_recordings}: at least 1 is needed")

    def clip(label: str, index: int) -> Clip:
        def load() -> tuple[F32, Truth | None]:
            r = simulate(scenario, space, index, label, seconds, fs)
            return r.x, r.truth

        name = f"{scenario.name}/{space}/{label}/{index}"
        return Clip(name, label, name, fs, load)

    return [clip(label, first + i) for label in (*scenario.labels, AMBIENT) for i in range(n_recordings)]


def clips_of(catalogue: recordings.Catalogue, ambient: Iterable[str] = (AMBIENT,)) -> list[Clip]:
    """Clips of a folder; labels named in ``ambient`` become the one label ``ambient``."""
    noise = frozenset(ambient)

    def clip(r: recordings.Recording) -> Clip:
        def load() -> tuple[F32, Truth | None]:
            return recordings.read(r), None if r.truth is None else Truth.read(r.truth)

        name = r.path.relative_to(catalogue.folder).as_posix() if catalogue.folder in r.path.parents else str(r.path)
        return Clip(name, AMBIENT if r.label in noise else r.label, r.group, r.fs, load)

    return [clip(r) for r in catalogue.recordings]


@dataclass(frozen=True, slots=True, eq=False)
class WindowSet:
    """Windows of several clips. Arrays have one entry per window."""

    spec: FeatureSpec
    labels: tuple[str, ...]
    """Class labels, then ``ambient``."""
    clips: tuple[Clip, ...]
    truths: tuple[Truth | None, ...]
    """One per clip."""
    features: F32
    """``(n, n_planes, n_freq, n_time)``"""
    y: npt.NDArray[np.int64]
    """``(n,)`` index into ``labels``; -1 for a label that is none of them."""
    clip: npt.NDArray[np.int64]
    """``(n,)`` index into ``clips``."""
    channel: npt.NDArray[np.int64]
    """``(n,)``"""
    first_sample: npt.NDArray[np.int64]
    """``(n,)`` source samples from the clip's start."""
    refused: tuple[Refused, ...] = ()
    """Files that could not be decoded."""
    spectrum_db: F32 | None = None
    """``(n, n_freq, n_time)``, dB re full scale squared; None in a set made without audio."""

    def __len__(self) -> int:
        return int(self.y.size)

    @property
    def groups(self) -> tuple[str, ...]:
        """Group of each window."""
        return tuple(self.clips[i].group for i in self.clip)

    @property
    def has_truth(self) -> bool:
        """Whether each clip of a class has its truth."""
        return all(t is not None for c, t in zip(self.clips, self.truths, strict=True) if c.label != AMBIENT)

    def spectra_of(self, index: npt.ArrayLike) -> F32:
        """Spectra of the windows of ``index``.

        Raises
        ------
        ValueError
            If the set was made without audio.
        """
        if self.spectrum_db is None:
            raise ValueError("a set of windows made without audio has no spectra")
        chosen: F32 = self.spectrum_db[np.asarray(index)]
        return chosen

    def take(self, index: npt.ArrayLike) -> WindowSet:
        """The windows of ``index`` (a list of indices or a mask), with all clips."""
        i = np.asarray(index)
        return WindowSet(
            self.spec, self.labels, self.clips, self.truths, self.features[i], self.y[i], self.clip[i],
            self.channel[i], self.first_sample[i], self.refused,
            None if self.spectrum_db is None else self.spectrum_db[i],
        )  # fmt: skip

    def of_label(self, label: str) -> WindowSet:
        """The windows of one label."""
        return self.take(self.y == self.labels.index(label))

    def of_groups(self, groups: Iterable[str]) -> WindowSet:
        """The windows of some groups."""
        wanted = frozenset(groups)
        return self.take(np.array([g in wanted for g in self.groups], bool))

    def counts(self) -> dict[str, int]:
        """Windows of each label."""
        return {label: int(np.count_nonzero(self.y == i)) for i, label in enumerate(self.labels)}

    def lines_hz(self, label: str) -> list[list[float]]:
        """Median frequency of each line of ``label``, for each clip of ``label`` whose truth is known."""
        return [
            [float(np.median(line.f_hz)) for line in truth.lines if line.label == label]
            for clip, truth in zip(self.clips, self.truths, strict=True)
            if truth is not None and clip.label == label
        ]


def collect(
    clips: Sequence[Clip],
    spec: FeatureSpec,
    labels: Sequence[str],
    *,
    every: int = 1,
    others: bool = False,
    what: str = "windows",
    progress: Progress = no_progress,
) -> WindowSet:
    """Run the front end over all clips and channels and keep every ``every``-th slot of the grid.

    Parameters
    ----------
    labels
        Labels of the set, ``ambient`` last.
    every
        Neighbouring slots share seven eighths of their samples; 4 keeps those that share half.
    others
        Whether clips of labels not among ``labels`` are let in, with ``y = -1``.

    Raises
    ------
    UsageError
        If a clip's label is not among ``labels`` and ``others`` is false.
    InputError
        If no clip could be decoded.
    """
    strange = sorted({c.label for c in clips} - set(labels))
    if strange and not others:
        raise UsageError(f"label {strange[0]!r} is not one of {', '.join(labels)}")
    number = {label: i for i, label in enumerate(labels)}
    features: list[F32] = []
    spectra: list[F32] = []
    rows: list[tuple[int, int, int, int]] = []
    used: list[Clip] = []
    truths: list[Truth | None] = []
    refused: list[Refused] = []
    for n_done, clip in enumerate(clips):
        progress(what, n_done, len(clips))
        try:
            x, truth = clip.load()
        except AudioFormatError as e:
            refused.append(Refused(Path(clip.name), str(e)))
            continue
        for window in windows_of(spec, clip.fs, x):
            if window.grid_index % every == 0:
                spectra += list(window.spectrum_db)
                for channel, f in enumerate(window.features):
                    features.append(f)
                    rows.append((number.get(clip.label, -1), len(used), channel, window.first_sample))
        used.append(clip)
        truths.append(truth)
    progress(what, len(clips), len(clips))
    if not rows:
        raise InputError(f"no windows in {len(clips)} recordings: {refused[0].reason if refused else 'none given'}")
    y, index, channel, first = np.array(rows, np.int64).T
    return WindowSet(
        spec,
        tuple(labels),
        tuple(used),
        tuple(truths),
        np.stack(features),
        y,
        index,
        channel,
        first,
        tuple(refused),
        np.stack(spectra),
    )


def split(clips: Sequence[Clip], shares: Mapping[str, float], seed: int = 0) -> tuple[dict[str, list[Clip]], list[str]]:
    """Share out the clips, label by label, by whole groups.

    Each part gets its share of the groups of a label, at least one where the label has as many groups as there are
    parts. A label with fewer groups goes to the first parts; the missing are said in the notes.

    Parameters
    ----------
    shares
        Name of each part and its share; the first takes what rounding leaves.

    Returns
    -------
    parts, notes
        Clips of each part, and for people what could not be shared out.
    """
    names = list(shares)
    parts: dict[str, list[Clip]] = {name: [] for name in names}
    notes: list[str] = []
    taken: dict[str, str] = {}
    rng = np.random.default_rng(seed)
    # labels with few groups first: where a group holds several labels, the first to place it decides
    by_label: dict[str, list[str]] = {}
    for c in clips:
        groups = by_label.setdefault(c.label, [])
        if c.group not in groups:
            groups.append(c.group)
    for label, groups in sorted(by_label.items(), key=lambda item: (len(item[1]), item[0])):
        free = [g for g in groups if g not in taken]
        order = [free[i] for i in rng.permutation(len(free))]
        total = sum(shares.values())
        wanted = {n: max(1, math.floor(len(groups) * shares[n] / total)) for n in names[1:]}
        for n in names[1:]:
            wanted[n] -= sum(1 for g in groups if taken.get(g) == n)
        for n in reversed(names[1:]):
            for _ in range(max(0, wanted[n])):
                # the first part must not go empty, nor an earlier one for the sake of a later
                earlier_empty = sum(1 for m in names[: names.index(n)] if not any(taken.get(g) == m for g in groups))
                if len(order) > earlier_empty:
                    taken[order.pop()] = n
        for g in order:
            taken[g] = names[0]
        missing = [n for n in names if not any(taken[g] == n for g in groups)]
        if missing:
            notes.append(f"{label}: only {len(groups)} independent recordings, none left for {', '.join(missing)}")
    for c in clips:
        parts[taken[c.group]].append(c)
    return parts, notes
