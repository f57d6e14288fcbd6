"""Which data a network is trained, calibrated and tested on: a recipe that can be written down and cooked again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration import dataset, recordings
from calibration.dataset import AMBIENT, Clip, Progress, WindowSet, no_progress
from calibration.metrics import line_table
from calibration.recordings import Refused
from calibration.scenarios import Line, Scenario, scenario_named
from models.errors import InputError, UsageError
from models.features import FeatureSpec

__all__ = ["Recipe", "Sets", "cook", "strangers", "windows_for_test"]

#: Shares of the recordings of a folder.
SHARES = {"train": 0.70, "val": 0.15, "calibrate": 0.15}
#: Slots between windows kept: training windows share half their samples, test windows none.
EVERY_TRAIN, EVERY_TEST = 4, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Where the data come from: a scenario of the simulated ocean, or a folder of recordings."""

    scenario: str | None = None
    n_recordings: int = 40
    """Simulated training recordings per label."""
    seconds: float = 40.0
    """Length of each simulated recording."""
    folder: str | None = None
    labels_csv: str | None = None
    class_column: str = "cls"
    tiers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """Labels to use, all if empty; ambient is always used."""
    ambient: tuple[str, ...] = (AMBIENT,)
    """Labels of source-free recordings."""
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.scenario is None) == (self.folder is None):
            raise UsageError("give either a scenario of the simulated ocean or a folder of recordings")
        if self.scenario is not None and not 10.0 <= self.seconds <= 3600.0:
            raise UsageError(f"length of simulated recordings is {self.seconds:g} s: must lie in 10..3600")
        if self.scenario is not None and not 2 <= self.n_recordings <= 10_000:
            raise UsageError(f"number of recordings per class is {self.n_recordings}: must lie in 2..10000")

    @property
    def synthetic(self) -> bool:
        """Whether the data are simulated."""
        return self.scenario is not None

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read what `write` wrote.

        Raises
        ------
        InputError
            If the file is missing or is no recipe.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
            return cls(**{**values, **lists})
        except (OSError, ValueError, TypeError, AttributeError) as e:
            raise InputError(f"{path}: not written by tonald train, or damaged: {e}") from e


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """Windows for each purpose, from recordings apart."""

    train: WindowSet
    val: WindowSet
    """Decides when training stops."""
    calibrate: WindowSet
    """Sets the thresholds."""
    line_tables_hz: Mapping[str, list[float]]
    """Canonical lines of each class, as far as known."""
    notes: tuple[str, ...]
    """For people: what the data lack."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class labels, then ambient."""
        return self.train.labels


def _labels(clips: list[Clip]) -> tuple[str, ...]:
    return (*sorted({c.label for c in clips} - {AMBIENT}), AMBIENT)


def _catalogue(recipe: Recipe, spec: FeatureSpec) -> tuple[list[Clip], tuple[Refused, ...]]:
    assert recipe.folder is not None
    found = recordings.scan(
        Path(recipe.folder),
        spec,
        labels_csv=None if recipe.labels_csv is None else Path(recipe.labels_csv),
        class_column=recipe.class_column,
        tiers=recipe.tiers,
    )
    clips = dataset.clips_of(found, recipe.ambient)
    if recipe.labels:
        missing = sorted(set(recipe.labels) - {c.label for c in clips})
        if missing:
            raise UsageError(
                f"{recipe.folder}: no usable recordings of {missing[0]!r}; it has {', '.join(found.labels)}"
            )
        clips = [c for c in clips if c.label in {*recipe.labels, AMBIENT}]
    return clips, found.refused


def cook(recipe: Recipe, spec: FeatureSpec, *, progress: Progress = no_progress) -> Sets:
    """Make the sets; the same recipe gives the same windows.

    Raises
    ------
    InputError
        If a folder lacks ambient recordings, a class, or all.
    UsageError
        If the recipe names what does not exist.
    """
    return _simulated(recipe, spec, progress) if recipe.synthetic else _recorded(recipe, spec, progress)


def _simulated(recipe: Recipe, spec: FeatureSpec, progress: Progress) -> Sets:
    assert recipe.scenario is not None
    scenario = scenario_named(recipe.scenario)
    if not scenario.labels:
        raise UsageError(f"scenario '{scenario.name}' has no vessels: nothing to learn")
    n, seconds, first = recipe.n_recordings, recipe.seconds, recipe.seed * 100_000
    labels = (*scenario.labels, AMBIENT)
    n_val, n_calibrate = max(2, n // 5), max(4, n // 2)
    parts = {
        "train": dataset.simulated_clips(scenario, "train", n, seconds, first=first, fs=spec.fs_model),
        "val": dataset.simulated_clips(scenario, "train", n_val, seconds, first=first + n, fs=spec.fs_model),
        "calibrate": dataset.simulated_clips(
            scenario, "calibrate", n_calibrate, seconds, first=first, fs=spec.fs_model
        ),
    }
    windows = {
        name: dataset.collect(clips, spec, labels, every=EVERY_TRAIN, what=f"{name} windows", progress=progress)
        for name, clips in parts.items()
    }
    tables = {label: scenario.canonical_lines(label).tolist() for label in scenario.labels}
    return Sets(windows["train"], windows["val"], windows["calibrate"], tables, ())


def _recorded(recipe: Recipe, spec: FeatureSpec, progress: Progress) -> Sets:
    clips, refused = _catalogue(recipe, spec)
    labels = _labels(clips)
    if not any(c.label == AMBIENT for c in clips):
        raise InputError(
            f"{recipe.folder}: no ambient recordings: thresholds need source-free sound; put some into "
            f"{recipe.folder}/{AMBIENT}, or name their labels with --ambient"
        )
    if len(labels) < 2:
        raise InputError(f"{recipe.folder}: only ambient recordings: there is no class to learn")
    parts, notes = dataset.split(clips, SHARES, recipe.seed)
    for label in labels:
        if not any(c.label == label for c in parts["calibrate"]):
            # better thresholds that flatter than none; the notes say so
            source = next(o for o in ("val", "train") if any(c.label == label for c in parts[o]))
            parts["calibrate"] = parts["calibrate"] + [c for c in parts[source] if c.label == label]
    if not parts["val"]:
        raise InputError(f"{recipe.folder}: at least two independent recordings of a class are needed, one to validate")
    windows = {
        name: dataset.collect(part, spec, labels, every=EVERY_TRAIN, what=f"{name} windows", progress=progress)
        for name, part in parts.items()
    }
    damaged = tuple(dict.fromkeys(r for w in windows.values() for r in w.refused))
    notes += [f"left out: {r.reason}" for r in (*refused, *damaged)]
    tables = {label: line_table(windows["train"].lines_hz(label), spec.bin_hz).tolist() for label in labels[:-1]}
    known = {label: table for label, table in tables.items() if table}
    return Sets(windows["train"], windows["val"], windows["calibrate"], known, tuple(notes))


def strangers(scenario: Scenario) -> Scenario:
    """A sea like ``scenario``'s, with as many vessels of classes no network was trained on: line tables drawn anew."""
    rng = np.random.default_rng(len(scenario.classes))
    classes = []
    for i, c in enumerate(scenario.classes):
        shaft = float(rng.uniform(1.5, 5.0))
        orders = sorted(rng.choice(np.arange(6, 40), 4, replace=False).tolist())
        lines = [Line(shaft * n, "shaft") for n in orders]
        lines += [Line(float(f), "machinery") for f in np.sort(rng.uniform(30.0, 450.0, 5))]
        classes.append(dataclasses.replace(c, label=f"stranger_{i}", shaft_hz=shaft, lines=tuple(lines)))
    return dataclasses.replace(scenario, name=f"{scenario.name}_strangers", classes=tuple(classes))


def windows_for_test(
    recipe: Recipe, spec: FeatureSpec, labels: tuple[str, ...], *, progress: Progress = no_progress
) -> tuple[WindowSet, tuple[str, ...]]:
    """All recordings of a recipe as test windows: of a scenario the test space and as many strangers, of a folder all.

    Labels not among ``labels`` are let in as strangers. The second value is for people: what was left out.
    """
    if recipe.scenario is not None:
        scenario = scenario_named(recipe.scenario)
        clips = []
        for sea in (scenario, strangers(scenario)):
            clips += dataset.simulated_clips(sea, "test", recipe.n_recordings, recipe.seconds, fs=spec.fs_model)
        # the strangers' sea would bring as much ambient noise again
        clips = [c for c in clips if c.label != AMBIENT or c.name.startswith(f"{scenario.name}/")]
        refused: tuple[Refused, ...] = ()
    else:
        clips, refused = _catalogue(recipe, spec)
    windows = dataset.collect(
        clips, spec, labels, every=EVERY_TEST, others=True, what="test windows", progress=progress
    )
    return windows, tuple(f"left out: {r.reason}" for r in (*refused, *windows.refused))
