r"""One stretch of sea before one hydrophone: what sounds, rendered chunk by chunk, with its exact line tracks.

Each line has the amplitude ``A(t) = sqrt(2 S(f, t) ENBW 10^(snr(t)/10))``, ``S`` the density of all noise at that line
and time (ambient and each vessel's broadband through the interference pattern) and ENBW that of a Hann frame with 2 Hz
bins: its in-bin SNR is ``snr(t)`` by construction. A vessel's lines follow the same interference pattern as its
broadband, ``snr(t) = drawn + |H|^2 / S`` in dB against its mean over the recording ``+ fading(t)``, and its Doppler:
phase ``2 pi f0 (tau + drift * integral of walk)`` at the emission time ``tau = t - r(t)/c``. All shaft lines and the
cavitation envelope of a vessel share one walk.

All draws are in seconds, hertz and decibels, so another rate gives the same events with other noise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calibration.ocean_events import draw_calls, draw_clicks
from calibration.ocean_physics import CHUNK_S, ENBW_HZ, Passage, ShapedNoise, Walk, rng_of
from calibration.ocean_sea import Hydrophone
from calibration.ocean_vessel import Family, Tone, Vessel
from calibration.scenarios import AMBIENT, Scenario, VesselClass
from calibration.truth import LineTrack, Truth

__all__ = ["Encounter"]

F64 = npt.NDArray[np.float64]

_GRID_S = 0.1  # of levels and of truth
_SPEED_STEP_S, _FADING_STEP_S = 3.0, 2.0
_MACHINERY_DRIFT = 0.15  # of the shaft's
# streams of one seed; 0 and 1 belong to the hydrophone
_SCENE, _EVENTS, _VESSEL_NOISE, _CLICK_NOISE = 2, 3, 4, 5


def _db(power: F64) -> F64:
    out: F64 = 10.0 * np.log10(power)
    return out


class Encounter:
    """What passes a hydrophone for a while: vessels of ``label``, foreign lines, calls and clicks.

    Parameters
    ----------
    scenario : Scenario
    seed_name : str
        Independent for each encounter.
    label : str
        A class of the scenario, or ``ambient``.
    duration_s : float
    sea : Hydrophone
    hum_over_all : bool
        Set the hum's SNR against all noise of this encounter (a recording of its own); False: against the ambient
        noise, so that it stays the same from encounter to encounter (a stream).

    Raises
    ------
    UsageError
        If the scenario has no such label.
    """

    def __init__(
        self, scenario: Scenario, seed_name: str, label: str, duration_s: float, sea: Hydrophone, *, hum_over_all: bool
    ) -> None:
        self._scenario, self._seed_name, self._sea = scenario, seed_name, sea
        self.label, self.duration_s, self._fs = label, duration_s, sea.fs
        rng = rng_of(seed_name, _SCENE)
        self._grid = np.linspace(0.0, duration_s, int(np.ceil(duration_s / _GRID_S)) + 1)
        self._grid.setflags(write=False)
        self.vessels = tuple(Vessel(scenario, ship, rng, duration_s) for ship in self._ships(rng))
        """Ships on their way: that of the label first."""
        self.labels = tuple(v.ship.label for v in self.vessels)
        """Classes that sound: of the label, and of the second ship if the scenario has one."""
        self._families: list[Family] = []
        self._tracks: list[LineTrack] = []
        for i, vessel in enumerate(self.vessels):
            self._add_lines_of(vessel, rng, 0.0 if i == 0 else scenario.second_ship_db or 0.0)
        self._add_foreign_lines(rng)
        self.hum_amplitudes = [self._add_hum(f, snr, over_all=hum_over_all) for f, snr, _ in sea.hum]
        events = rng_of(seed_name, _EVENTS)
        self._calls = [(c, self._call_amplitude(c.f_from_hz, c.snr_db)) for c in draw_calls(events, duration_s)]
        self._clicks = draw_clicks(events, duration_s)
        self._noise = [self._noise_of(i) for i in range(len(self.vessels))]
        f = np.arange(0.5, sea.fs / 2)
        self._rms = float(np.sqrt(self.density(f, np.full(1, duration_s / 2)).sum()))

    @property
    def truth(self) -> Truth:
        """Labels and line tracks; times from the encounter's start, at most 0.1 s apart."""
        return Truth(self.labels, tuple(self._tracks))

    def density(self, f_hz: F64 | float, t_s: F64) -> F64:
        """One-sided density of all noise as recorded, µPa²/Hz, broadcast of ``f_hz`` and ``t_s``."""
        f = np.asarray(f_hz, np.float64)
        total = self._sea.density(f) + np.zeros(np.broadcast_shapes(f.shape, t_s.shape))
        for vessel in self.vessels:
            total = total + self._sea.response(f) * vessel.received(f, t_s, self._sea.depth_m)
        return total

    def chunk(self, k: int) -> F64:
        """Chunk ``k`` without ambient noise and hum, shape ``(CHUNK_S * fs,)``, µPa."""
        n = CHUNK_S * self._fs
        first = k * n
        t = (first + np.arange(n)) / self._fs
        x = np.zeros(n)
        for vessel, noise in zip(self.vessels, self._noise, strict=True):
            x += noise.chunk(k) * vessel.envelope(t)
        for family in self._families:
            x += family.render(t, self._grid)
        for call, amplitude in self._calls:
            call.add_to(x, first, self._fs, amplitude)
        for i, click in enumerate(self._clicks):
            click.add_to(x, first, self._fs, self._rms, self._seed_name, (_CLICK_NOISE, i))
        return x

    def _ships(self, rng: np.random.Generator) -> list[VesselClass]:
        if self.label == AMBIENT:
            return []
        ships = [self._scenario.vessel(self.label)]
        if self._scenario.second_ship_db is not None:
            rest = [c for c in self._scenario.classes if c.label != self.label]
            ships.append(rest[int(rng.integers(len(rest)))])
        return ships

    def _noise_of(self, i: int) -> ShapedNoise:
        vessel = self.vessels[i]
        f = ShapedNoise.frequencies_hz(self._fs)
        at_1m = self._sea.response(f) * vessel.source_level(f)
        depth_m = self._sea.depth_m  # not self: a scene that refers to itself stays in memory until it is looked for

        def density(frame: int) -> F64:
            return at_1m * vessel.mirror(f, np.full(1, float(frame * CHUNK_S)), depth_m)

        return ShapedNoise(self._fs, self._seed_name, (_VESSEL_NOISE, i), density)

    def _add_lines_of(self, vessel: Vessel, rng: np.random.Generator, level_db: float) -> None:
        s = self._scenario
        self._families.append(vessel.shaft)
        for line in vessel.ship.lines:
            present, drawn = rng.random() < s.presence, float(rng.uniform(*s.snr_db)) + level_db
            fading, walk = self._fading(rng), Walk.draw(rng, self.duration_s, _SPEED_STEP_S)
            turns = float(rng.uniform())
            if not present:
                continue
            if line.kind == "shaft":
                family, f = vessel.shaft, line.f_hz * vessel.rpm
            else:
                family, f = Family(walk, s.drift * _MACHINERY_DRIFT, vessel.passage, []), line.f_hz * vessel.machinery
                self._families.append(family)
            path = _db(vessel.mirror(np.full(1, f), self._grid, self._sea.depth_m) / self.density(f, self._grid))
            self._add_tone(family, vessel.ship.label, f, turns, drawn + path - path.mean() + fading)

    def _add_foreign_lines(self, rng: np.random.Generator) -> None:
        s = self._scenario
        for _ in range(int(rng.integers(s.n_foreign[0], s.n_foreign[1] + 1))):
            steady = rng.random() < 0.5
            family = Family(
                Walk.draw(rng, self.duration_s, _SPEED_STEP_S),
                s.drift * (_MACHINERY_DRIFT if steady else 1.0),
                None,
                [],
            )
            self._families.append(family)
            self._add_foreign(family, float(rng.uniform(15.0, 500.0)), float(rng.uniform(*s.foreign_snr_db)), rng)
        if rng.random() < s.p_other_family:
            walk = Walk.draw(rng, self.duration_s, _SPEED_STEP_S)
            path = Passage(
                float(rng.uniform(3e3, 1e4)), 3e3, float(rng.uniform(3.0, 9.0)), float(rng.uniform(0.0, 6.28))
            )
            family = Family(walk, s.drift, path, [])
            self._families.append(family)
            f0, first = float(rng.uniform(6.0, 25.0)), int(rng.integers(2, 5))
            for k in range(first, first + int(rng.integers(3, 6))):
                self._add_foreign(family, k * f0, float(rng.uniform(*s.foreign_snr_db)) - 2.0, rng)

    def _add_foreign(self, family: Family, f: float, drawn: float, rng: np.random.Generator) -> None:
        noise = _db(self.density(f, self._grid))
        self._add_tone(family, None, f, float(rng.uniform()), drawn + noise.mean() - noise + self._fading(rng))

    def _add_tone(self, family: Family, label: str | None, f: float, turns: float, snr_db: F64) -> None:
        self._record(label, f * family.factor(self._grid), snr_db)
        amplitude = np.sqrt(2.0 * self.density(f, self._grid) * ENBW_HZ * 10.0 ** (snr_db / 10.0))
        family.tones.append(Tone(f, turns, amplitude))

    def _add_hum(self, f: float, snr_db: float, *, over_all: bool) -> float:
        noise = self.density(f, self._grid)
        reference = float(noise.mean()) if over_all else float(self._sea.density(np.full(1, f))[0])
        power = 2.0 * reference * ENBW_HZ * 10.0 ** (snr_db / 10.0)
        self._record(None, np.full(self._grid.size, f), _db(power / (2.0 * noise * ENBW_HZ)))
        return float(np.sqrt(power))

    def _record(self, label: str | None, f: F64, snr_db: F64) -> None:
        for a in (f, snr_db):
            a.setflags(write=False)
        self._tracks.append(LineTrack(label, self._grid, f, snr_db))

    def _fading(self, rng: np.random.Generator) -> F64:
        return self._scenario.fading_db * Walk.draw(rng, self.duration_s, _FADING_STEP_S).value(self._grid)

    def _call_amplitude(self, f: float, snr_db: float) -> float:
        noise = float(self.density(f, np.full(1, self.duration_s / 2))[0])
        return float(np.sqrt(2.0 * noise * ENBW_HZ * 10.0 ** (snr_db / 10.0)))
