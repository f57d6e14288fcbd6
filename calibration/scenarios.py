"""Frozen scenarios of the simulated ocean: who sails, which lines, how hard.

A scenario never changes once it is used: a change of any number here asks for a higher ``version``, which also gives
all its recordings new seeds. The line tables follow four families of ships (bulk carrier, passenger ship, tanker, tug);
some lines of different classes lie within a bin or two of each other, as they do at sea: no single line proves a class.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from models.errors import UsageError

__all__ = ["AMBIENT", "SCENARIOS", "Line", "Scenario", "SeedSpace", "VesselClass", "scenario_named"]

F64 = npt.NDArray[np.float64]

SeedSpace: TypeAlias = Literal["train", "calibrate", "test", "demo"]
"""What a recording is for; each space has noise of its own."""

#: Label of recordings without a vessel.
AMBIENT = "ambient"


@dataclass(frozen=True, slots=True)
class Line:
    """One tonal of a class at nominal speed."""

    f_hz: float
    kind: Literal["shaft", "machinery"]
    """``shaft``: scales with the speed of the propeller shaft; ``machinery``: nearly constant."""


@dataclass(frozen=True, slots=True)
class VesselClass:
    """One class of vessel."""

    label: str
    family: str
    """What kind of ship it resembles, for people."""
    shaft_hz: float
    """Turns of the propeller per second at nominal speed."""
    n_blades: int
    lines: tuple[Line, ...]
    v_cruise_kn: float
    """Reference speed of JOMOPANS-ECHO."""
    d_low: float | None
    """Width of the JOMOPANS-ECHO hump of cargo ships below 100 Hz; None for classes without it."""
    length_m: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How hard the sea is; all pairs are the ends of a uniform draw per recording."""

    name: str
    version: int
    classes: tuple[VesselClass, ...]
    snr_db: tuple[float, float] = (2.0, 14.0)
    """In-bin SNR of each line, mean over the recording, in a 2 Hz-bin Hann frame."""
    shaft_spread: float = 0.025
    """Speed of the shaft per recording: nominal times 1 +- this."""
    machinery_spread: float = 0.003
    """Speed of the machinery per recording: nominal times 1 +- this."""
    presence: float = 0.92
    """Probability that a line of the table sounds in a recording."""
    drift: float = 0.0015
    """Standard deviation of the relative speed walk within a recording; machinery walks 0.15 of it."""
    fading_db: float = 1.5
    """Standard deviation of each line's level walk, on top of the interference pattern."""
    n_foreign: tuple[int, int] = (2, 5)
    """Foreign tonal lines per recording, both ends included."""
    foreign_snr_db: tuple[float, float] = (4.0, 14.0)
    second_ship_db: float | None = None
    """Level of a second ship of another class against the drawn SNR; None for no second ship."""
    wind_kn: tuple[float, float] = (3.0, 25.0)
    shipping: tuple[float, float] = (2.0, 6.0)
    """Shipping index of the Wenz curves, 1 (light) to 7 (heavy)."""
    p_hum: float = 0.3
    """Probability of 50 or 60 Hz sensor hum."""
    p_other_family: float = 0.2
    """Probability of a distant vessel of no known class, heard as a harmonic family."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class labels, without ``ambient``."""
        return tuple(c.label for c in self.classes)

    def vessel(self, label: str) -> VesselClass:
        """Class of ``label``.

        Raises
        ------
        UsageError
            If the scenario has no such class.
        """
        for c in self.classes:
            if c.label == label:
                return c
        known = ", ".join((*self.labels, AMBIENT))
        raise UsageError(f"scenario '{self.name}' has no label '{label}': one of {known}")

    def seed_name(self, space: SeedSpace, index: int, what: str) -> str:
        """Words that seed recording or stream ``what``; another version, space or index shares no noise.

        Raises
        ------
        UsageError
            If ``index`` is negative.
        """
        if index < 0:
            raise UsageError(f"index {index} of a simulated recording is negative")
        return f"{self.name}/v{self.version}/{space}/{index}/{what}"

    def canonical_lines(self, label: str) -> F64:
        """Nominal line frequencies of ``label``, Hz, ascending, shape ``(n_lines,)``; none for ``ambient``."""
        if label == AMBIENT:
            return np.zeros(0)
        return np.array(sorted(line.f_hz for line in self.vessel(label).lines))


def _lines(shaft: tuple[float, ...], machinery: tuple[float, ...]) -> tuple[Line, ...]:
    return tuple(Line(f, "shaft") for f in shaft) + tuple(Line(f, "machinery") for f in machinery)


# Blade rate = n_blades * shaft_hz; gensets fire at rpm / 120 * n_cylinders, mains at 60 Hz, gears at teeth * rate.
_CLASSES = (
    VesselClass(
        "vessel_0", "bulk carrier", 2.0, 4,
        _lines((16.0, 24.0, 32.0, 40.0), (60.0, 72.0, 144.0, 180.0, 247.0)),
        13.9, 0.8, (150.0, 300.0),
    ),
    VesselClass(
        "vessel_1", "passenger ship", 2.5, 5,
        _lines((25.0, 37.5, 50.0, 312.0), (100.0, 135.0, 202.5, 390.0)),
        9.7, None, (100.0, 200.0),
    ),
    VesselClass(
        "vessel_2", "tanker", 1.96, 5,
        _lines((29.4, 39.2, 58.8, 78.4), (90.0, 118.0, 135.0, 177.0, 354.0)),
        12.4, 1.0, (200.0, 350.0),
    ),
    VesselClass(
        "vessel_3", "tug", 4.0, 4,
        _lines((16.0, 32.0, 48.0, 64.0, 213.3, 426.6), (60.0, 160.0, 280.0)),
        3.7, None, (20.0, 40.0),
    ),
)  # fmt: skip

SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        s.name: s
        for s in (
            Scenario(name="standard", version=1, classes=_CLASSES),
            Scenario(name="low_snr", version=1, classes=_CLASSES, snr_db=(0.0, 6.0)),
            Scenario(name="two_ships", version=1, classes=_CLASSES, second_ship_db=-2.0),
            Scenario(name="wide", version=1, classes=_CLASSES, shaft_spread=0.15, machinery_spread=0.06),
            Scenario(name="empty", version=1, classes=()),
        )
    }
)
"""All scenarios by name."""


def scenario_named(name: str) -> Scenario:
    """Scenario of that name.

    Raises
    ------
    UsageError
        If there is none; the message names the nearest.
    """
    if name in SCENARIOS:
        return SCENARIOS[name]
    near = difflib.get_close_matches(name, SCENARIOS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"one of {', '.join(SCENARIOS)}"
    raise UsageError(f"unknown scenario '{name}': {hint}")
