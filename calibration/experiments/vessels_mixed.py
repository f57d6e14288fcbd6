"""Training material for `tonald experiments vessels` beyond the windows as they are: mixtures, and a simulated sea.

*Mixtures.* Vessel and ambient were recorded in different places, so a model may learn the place. In a mixture both are
heard at once: each vessel window over one window of each ambient site, and, so that being a mixture tells nothing, each
ambient window over one of each other ambient site. Of them a fold trains on those both halves of which it may see.

*Simulated.* Vessels of the scenario `SCENARIO` and its ambient sea, seeds of the space ``train``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.dataset import AMBIENT, Progress, no_progress, simulated_clips
from calibration.experiments.vessels_windows import N_MODEL, SPEC, Windows, line_figures
from calibration.scenarios import scenario_named
from models.tracks import TrackFinder

__all__ = ["Mixtures", "mixtures", "simulated"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]

#: Power of the first half of a mixture over that of the second, dB, drawn anew for each: from the first row in use up.
SNR_DB = (-6.0, 6.0)
#: Vessels whose lines and speeds vary most, as strangers' do.
SCENARIO = "wide"
#: Recordings of each simulated label and, of ambient, of all of them; pieces taken of each; index of the first.
N_VESSEL, N_PIECES, FIRST = 12, 2, 400


@dataclass(frozen=True, slots=True, eq=False)
class Mixtures:
    """Mixtures of pairs of windows; arrays have one entry per mixture."""

    pair: I64
    """``(n, 2)`` index of either window."""
    lines: F64
    """``(n, 5)``, as of a window."""
    is_vessel: Bits

    def within(self, train: npt.NDArray[np.integer]) -> Bits:
        """Which of them are made of windows of ``train`` alone."""
        known = np.isin(self.pair, train)
        out: Bits = known[:, 0] & known[:, 1]
        return out


def mixtures(w: Windows, seed: int, progress: Progress = no_progress) -> Mixtures:
    """Mix each window with one window of each ambient site but its own, drawn from ``seed``."""
    rng, finder = np.random.default_rng(seed), TrackFinder(SPEC)
    y = w.is_vessel
    halves = [_without_dc(x) for x in w.audio]
    pairs, lines = [], []
    for i in range(len(w)):
        progress("windows mixed", i, len(w))
        for site in np.unique(w.site[~y]):
            if site == w.site[i]:
                continue
            j = int(rng.choice(np.flatnonzero(~y & (w.site == site))))
            gain = 10.0 ** (rng.uniform(*SNR_DB) / 20.0)
            pairs.append((i, j))
            lines.append(line_figures((gain * halves[i] + halves[j]).astype(np.float32), finder))
    progress("windows mixed", len(w), len(w))
    pair = np.array(pairs, np.int64).reshape(-1, 2)
    return Mixtures(pair, np.array(lines, np.float64).reshape(len(pair), w.lines.shape[1]), y[pair[:, 0]])


def simulated(progress: Progress = no_progress) -> tuple[F64, Bits]:
    """Lines ``(n, 5)`` of simulated windows, as many of the sea as of vessels, and which are of vessels."""
    scenario, finder = scenario_named(SCENARIO), TrackFinder(SPEC)
    seconds = (N_PIECES * N_MODEL + SPEC.n_fft) / SPEC.fs_model
    n_ambient = N_VESSEL * len(scenario.labels)
    made = simulated_clips(scenario, "train", n_ambient, seconds, first=FIRST, fs=SPEC.fs_model)
    clips = [c for c in made if c.label == AMBIENT]
    clips += [
        c
        for c in simulated_clips(scenario, "train", N_VESSEL, seconds, first=FIRST, fs=SPEC.fs_model)
        if c.label != AMBIENT
    ]
    lines, vessel = [], []
    for n, clip in enumerate(clips):
        progress("simulated recordings", n, len(clips))
        x, _ = clip.load()
        for k in range(N_PIECES):
            piece = x[0, k * N_MODEL : (k + 1) * N_MODEL]
            lines.append(line_figures(piece - piece.mean(), finder))
            vessel.append(clip.label != AMBIENT)
    progress("simulated recordings", len(clips), len(clips))
    return np.array(lines), np.array(vessel, bool)


def _without_dc(x: F32) -> F64:
    """The window at power 1 in the rows in use, what lies below taken away."""
    spectrum = np.fft.rfft(np.asarray(x, np.float64))
    freq = np.fft.rfftfreq(x.size, 1.0 / SPEC.fs_model)
    spectrum[freq < SPEC.f_lo_hz] = 0.0
    inside = freq < SPEC.f_hi_hz
    power = 2.0 * float((np.abs(spectrum[inside]) ** 2).sum()) / x.size**2
    out: F64 = np.fft.irfft(spectrum, x.size) / np.sqrt(power + 1e-30)
    return out
