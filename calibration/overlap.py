"""Whether a folder to test on holds what a network was trained on: the same vessel, source or recording.

Within one folder no split parts a group (`calibration.recordings`). Between two folders nobody but their owner can keep
vessels apart, so this only tells; figures on what both hold flatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calibration.recordings import Recording, scan
from calibration.sets import Recipe
from models.feature_spec import FeatureSpec

__all__ = ["overlap", "shared_marks"]


def overlap(train: Recipe, test: Recipe, spec: FeatureSpec) -> tuple[str, ...]:
    """One sentence for people per vessel, source file or recording that both folders hold.

    Raises
    ------
    InputError
        If a folder or its table cannot be read.
    ValueError
        If a recipe is of the simulated ocean.
    """
    marks = shared_marks(_recordings(train, spec), _recordings(test, spec))
    return tuple(f"{mark} is in both {train.folder} and {test.folder}: figures on it flatter" for mark in marks)


def shared_marks(train: Sequence[Recording], test: Sequence[Recording]) -> tuple[str, ...]:
    """What joins recordings of either side, in words, sorted.

    A vessel or source file named in a table; one file; parts of one recording by name. Equal names without ``_partN``
    say nothing: many folders count from 1.
    """
    ours, theirs = (frozenset(mark for r in side for mark in _marks(r)) for side in (train, test))
    return tuple(sorted(ours & theirs))


def _recordings(recipe: Recipe, spec: FeatureSpec) -> tuple[Recording, ...]:
    if recipe.folder is None:
        raise ValueError("a recipe of the simulated ocean has no recordings")
    table = None if recipe.labels_csv is None else Path(recipe.labels_csv)
    found = scan(
        Path(recipe.folder), spec, labels_csv=table, class_column=recipe.class_column, tiers=recipe.tiers
    ).recordings
    wanted = {*recipe.labels, *recipe.ambient}
    return tuple(r for r in found if not recipe.labels or r.label in wanted)


def _marks(recording: Recording) -> list[str]:
    out = [f"file {recording.path.resolve()}"]
    for tie in recording.ties:
        kind, _, value = tie.partition(" ")
        if kind == "name" and Path(value).name != recording.path.stem:
            out.append(f"recording {value} in parts")
        elif kind != "name":
            out.append(f"{kind.replace('_path', '')} {' '.join(value.split())}")
    return out
