"""What a vessel gives off: line families on one speed walk, broadband through the mirror, cavitation envelope."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.ocean_physics import SOUND_SPEED, Passage, Walk, cavitation_pattern, jomopans_echo, lloyd_mirror
from calibration.scenarios import Scenario, VesselClass

__all__ = ["Family", "Tone", "Vessel"]

F64 = npt.NDArray[np.float64]

_M_S_PER_KNOT = 0.514444
_REFLECTION = 0.9  # of the sea surface
_KNOT_STEP_S = 3.0  # of speed walks


@dataclass(slots=True, eq=False)
class Tone:
    """One sounding line."""

    f_hz: float
    """Nominal for this recording: before walk and Doppler."""
    turns: float
    """Phase at the start, in turns."""
    amplitude: F64
    """On the encounter's time grid, µPa."""


@dataclass(slots=True, eq=False)
class Family:
    """Lines that share one walk and one passage."""

    walk: Walk
    drift: float
    """Standard deviation of the relative frequency."""
    passage: Passage | None
    """Path of the source, for Doppler; None: at rest."""
    tones: list[Tone]

    def scale(self, t_s: F64) -> F64:
        """Integral of the frequency over the nominal one, seconds."""
        tau = t_s if self.passage is None else self.passage.emission_s(t_s)
        out: F64 = tau + self.drift * self.walk.integral(np.maximum(tau, 0.0))
        return out

    def factor(self, t_s: F64) -> F64:
        """Frequency over the nominal one."""
        if self.passage is None:
            return np.asarray(1.0 + self.drift * self.walk.value(t_s))
        tau = np.maximum(self.passage.emission_s(t_s), 0.0)
        doppler = 1.0 - self.passage.range_rate(t_s) / SOUND_SPEED
        return np.asarray((1.0 + self.drift * self.walk.value(tau)) * doppler)

    def render(self, t_s: F64, grid_s: F64) -> F64:
        """Sum of the lines at ``t_s``, µPa; amplitudes are given at ``grid_s``."""
        scale = self.scale(t_s)
        x = np.zeros(t_s.size)
        for tone in self.tones:
            turns = (tone.f_hz * scale + tone.turns) % 1.0
            x += np.interp(t_s, grid_s, tone.amplitude) * np.cos(2.0 * np.pi * turns)
        return x


class Vessel:
    """One ship on its way: broadband through the mirror, cavitation envelope, speed of shaft and machinery."""

    def __init__(self, scenario: Scenario, ship: VesselClass, rng: np.random.Generator, duration_s: float) -> None:
        self.ship = ship
        self.rpm = float(rng.uniform(1.0 - scenario.shaft_spread, 1.0 + scenario.shaft_spread))
        self.machinery = float(rng.uniform(1.0 - scenario.machinery_spread, 1.0 + scenario.machinery_spread))
        v_kn = ship.v_cruise_kn * self.rpm * float(rng.uniform(0.9, 1.1))
        self._v = v_kn, float(rng.uniform(*ship.length_m))
        self.z_m = float(rng.uniform(3.0, 8.0))
        self.passage = Passage(
            cpa_m=float(np.exp(rng.uniform(np.log(150.0), np.log(3000.0)))),
            leg_m=float(rng.uniform(500.0, 1500.0)),
            v_m_s=v_kn * _M_S_PER_KNOT,
            phase=float(rng.uniform(0.0, 2.0 * np.pi)),
        )
        self.walk = Walk.draw(rng, duration_s, _KNOT_STEP_S)
        self.shaft = Family(self.walk, scenario.drift, self.passage, [])
        self._pattern = cavitation_pattern(ship.n_blades, float(rng.uniform(0.1, 0.5)))
        self._turns = float(rng.uniform())

    def source_level(self, f_hz: F64) -> F64:
        """Broadband at 1 m, µPa²/Hz."""
        return jomopans_echo(f_hz, self._v[0], self.ship.v_cruise_kn, self._v[1], self.ship.d_low)

    def mirror(self, f_hz: F64, t_s: F64, depth_m: float) -> F64:
        """Power gain of the path, broadcast of ``f_hz`` and ``t_s``."""
        return lloyd_mirror(f_hz, self.passage.range_m(t_s), self.z_m, depth_m, _REFLECTION)

    def received(self, f_hz: F64, t_s: F64, depth_m: float) -> F64:
        """Broadband at the hydrophone, µPa²/Hz, broadcast of ``f_hz`` and ``t_s``."""
        return self.source_level(f_hz) * self.mirror(f_hz, t_s, depth_m)

    def envelope(self, t_s: F64) -> F64:
        """Cavitation envelope, mean square 1."""
        turns = (self.ship.shaft_hz * self.rpm * self.shaft.scale(t_s) + self._turns) % 1.0
        n = self._pattern.size - 1
        out: F64 = np.interp(turns * n, np.arange(n + 1), self._pattern)
        return out
