"""Simulated vessels of classes no network knows, each with a line table of its own.

`calibration.sets.strangers` makes a few such classes, always the same. Here every recording draws its own: some lines
are harmonics of the shaft, either scattered orders or a run of neighbouring ones, the others machinery. They serve two
ends: a test with as many strange vessels as recordings, and, from the space ``train``, windows a network can be trained
to be unsure of (outlier exposure; Hendrycks et al., "Deep anomaly detection with outlier exposure", 2019). Line tables
of different space or index are independent.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from calibration.dataset import Clip, simulated_clips
from calibration.ocean_physics import rng_of
from calibration.scenarios import Line, Scenario, SeedSpace
from models.errors import UsageError

__all__ = ["STRANGE", "strange_clips", "strange_sea"]

#: Label of vessels made here.
STRANGE = "stranger"
#: Stream of a seed that draws the line table.
_TABLE = 11
#: Shaft harmonics and machinery lines of a stranger, both ends included.
N_SHAFT, N_MACHINERY = (3, 6), (2, 7)
#: Turns of the shaft per second, and band of the machinery, Hz.
SHAFT_HZ, MACHINERY_HZ = (1.5, 5.0), (30.0, 450.0)


def strange_sea(scenario: Scenario, space: SeedSpace, index: int) -> Scenario:
    """``scenario``'s sea with one class, `STRANGE`, whose line table belongs to this space and index alone.

    Raises
    ------
    UsageError
        If the scenario has no vessels to shape the stranger's hull after, or ``index`` is negative.
    """
    if not scenario.classes:
        raise UsageError(f"scenario '{scenario.name}' has no vessels: a stranger is made in their likeness")
    rng = rng_of(scenario.seed_name(space, index, "strange-table"), _TABLE)
    hull = scenario.classes[int(rng.integers(len(scenario.classes)))]
    shaft = float(rng.uniform(*SHAFT_HZ))
    n_shaft = int(rng.integers(N_SHAFT[0], N_SHAFT[1] + 1))
    if rng.random() < 0.5:  # harmonics of the blade rate, one after the other
        n_blades, first = int(rng.integers(3, 7)), int(rng.integers(1, 4))
        orders = n_blades * (first + np.arange(n_shaft))
    else:
        n_blades, orders = hull.n_blades, np.sort(rng.choice(np.arange(6, 40), n_shaft, replace=False))
    machinery = np.sort(rng.uniform(*MACHINERY_HZ, int(rng.integers(N_MACHINERY[0], N_MACHINERY[1] + 1))))
    lines = tuple(Line(shaft * int(n), "shaft") for n in orders)
    lines += tuple(Line(float(f), "machinery") for f in machinery)
    own = dataclasses.replace(hull, label=STRANGE, shaft_hz=shaft, n_blades=n_blades, lines=lines)
    return dataclasses.replace(scenario, name=f"{scenario.name}_{STRANGE}", classes=(own,))


def strange_clips(
    scenario: Scenario, space: SeedSpace, n_recordings: int, seconds: float, *, first: int = 0, fs: int = 2000
) -> list[Clip]:
    """``n_recordings`` recordings of `STRANGE`, each a vessel of its own.

    Parameters
    ----------
    first
        Index of the first within the seed space.
    """
    if n_recordings < 1:
        raise UsageError(f"number of strange recordings is {n_recordings}: at least 1 is needed")
    clips: list[Clip] = []
    for index in range(first, first + n_recordings):
        sea = strange_sea(scenario, space, index)
        clips += [c for c in simulated_clips(sea, space, 1, seconds, first=index, fs=fs) if c.label == STRANGE]
    return clips
