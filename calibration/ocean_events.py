"""Short interferers: FM calls of animals and clicks; both counted per slot of 8 s, both addressable by time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.ocean_physics import rng_of

__all__ = ["Call", "Click", "draw_calls", "draw_clicks"]

F64 = npt.NDArray[np.float64]

SLOT_S = 8.0
_CLICK_S, _CLICK_DECAY_S = 0.02, 0.004


@dataclass(frozen=True, slots=True)
class Call:
    """Biologic: a linear chirp under a half-sine envelope."""

    start_s: float
    duration_s: float
    f_from_hz: float
    f_to_hz: float
    snr_db: float
    """In-bin, at the peak, as for a line at ``f_from_hz``."""

    def add_to(self, x: F64, first_sample: int, fs: int, amplitude: float) -> None:
        """Add what falls into ``x``, which starts at ``first_sample``."""
        a = max(int(np.ceil(self.start_s * fs)), first_sample)
        b = min(int(np.ceil((self.start_s + self.duration_s) * fs)), first_sample + x.size)
        if a >= b:
            return
        t = np.arange(a, b) / fs - self.start_s
        turns = self.f_from_hz * t + (self.f_to_hz - self.f_from_hz) * t**2 / (2.0 * self.duration_s)
        x[a - first_sample : b - first_sample] += (
            amplitude * np.sin(np.pi * t / self.duration_s) * np.cos(2.0 * np.pi * turns)
        )


@dataclass(frozen=True, slots=True)
class Click:
    """Broadband transient: white noise that dies away within milliseconds."""

    start_s: float
    height: float
    """Initial standard deviation over that of all other noise."""

    def add_to(self, x: F64, first_sample: int, fs: int, rms: float, seed_name: str, key: tuple[int, ...]) -> None:
        """Add what falls into ``x``, which starts at ``first_sample``."""
        start = int(self.start_s * fs)
        n = int(_CLICK_S * fs)
        a, b = max(start, first_sample), min(start + n, first_sample + x.size)
        if a >= b:
            return
        shape = np.exp(-np.arange(n) / (_CLICK_DECAY_S * fs)) * rng_of(seed_name, *key).standard_normal(n)
        x[a - first_sample : b - first_sample] += self.height * rms * shape[a - start : b - start]


def draw_calls(rng: np.random.Generator, duration_s: float) -> tuple[Call, ...]:
    """0 to 2 calls per slot, in order of time."""
    calls = []
    for slot in range(int(np.ceil(duration_s / SLOT_S))):
        for _ in range(int(rng.integers(0, 3))):
            f_from = float(rng.uniform(60.0, 400.0))
            calls.append(
                Call(
                    start_s=(slot + float(rng.uniform())) * SLOT_S,
                    duration_s=float(rng.uniform(0.6, 2.0)),
                    f_from_hz=f_from,
                    f_to_hz=f_from * float(rng.uniform(0.5, 1.6)),
                    snr_db=float(rng.uniform(8.0, 18.0)),
                )
            )
    return tuple(sorted(calls, key=lambda c: c.start_s))


def draw_clicks(rng: np.random.Generator, duration_s: float) -> tuple[Click, ...]:
    """On average 1.5 clicks per slot (Poisson), in order of time."""
    n = int(rng.poisson(1.5 * duration_s / SLOT_S))
    starts = np.sort(rng.uniform(0.0, duration_s, size=n))
    return tuple(Click(float(t), float(h)) for t, h in zip(starts, rng.uniform(2.0, 6.0, size=n), strict=True))
