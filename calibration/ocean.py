"""Simulated ocean: seeded hydrophone audio with exact truth, as recordings and as endless streams.

Every recording has a seed of its own, made from the words ``scenario/version/space/index/label``: recordings for
training, calibration and test never share noise, lines or geometry. Level, DC offset and hum of the recorder are drawn
too, so none of them is a clue. The scene is described in :mod:`calibration.ocean_scene`, the formulas in
:mod:`calibration.ocean_physics`, the frozen tables in :mod:`calibration.scenarios`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.ocean_physics import CHUNK_S, rng_of
from calibration.ocean_scene import Encounter
from calibration.ocean_sea import Hydrophone
from calibration.ocean_stream import OceanStream, ScheduleItem
from calibration.scenarios import AMBIENT, SCENARIOS, Scenario, SeedSpace, VesselClass, scenario_named
from calibration.truth import Truth
from models.errors import UsageError

__all__ = [
    "AMBIENT", "SCENARIOS", "OceanStream", "Scenario", "ScheduleItem", "SeedSpace", "SimulatedRecording", "VesselClass",
    "scenario_named", "simulate",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
_RECORDER = 9  # stream of a seed: gain and offset


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedRecording:
    """Audio of one hydrophone and what truly sounds in it."""

    x: F32
    """``(1, n_samples)``, full scale 1, never clipped."""
    fs: int
    truth: Truth
    label: str
    seed_name: str


def simulate(
    scenario: Scenario, space: SeedSpace, index: int, label: str, duration_s: float, fs: int = 2000
) -> SimulatedRecording:
    """One recording; the same arguments give the same samples (another duration is another recording).

    The peak of the recording is drawn between -40 and -3 dB re full scale, the DC offset within 1 % of full scale.

    Parameters
    ----------
    scenario : Scenario
        One of ``SCENARIOS``.
    space : SeedSpace
    index : int
        From 0; recordings of different index, label or space are independent.
    label : str
        A class of the scenario, or ``ambient``: interferers and noise only.
    duration_s : float
    fs : int
        2000 to 192000 Hz.

    Returns
    -------
    SimulatedRecording

    Raises
    ------
    SampleRateError
        If ``fs`` is out of range.
    UsageError
        If the scenario has no such label, or index or duration is out of range.
    """
    n_samples = round(duration_s * fs)
    if n_samples < 1:
        raise UsageError(f"a recording of {duration_s} s holds no sample at {fs} Hz")
    seed_name = scenario.seed_name(space, index, label)
    sea = Hydrophone(scenario, seed_name, fs)
    encounter = Encounter(scenario, seed_name, label, duration_s, sea, hum_over_all=True)
    n_chunks = -(-n_samples // (CHUNK_S * fs))
    chunks = [sea.chunk(k) + sea.hum_chunk(k, encounter.hum_amplitudes) + encounter.chunk(k) for k in range(n_chunks)]
    x = np.concatenate(chunks)[:n_samples]
    rng = rng_of(seed_name, _RECORDER)
    peak = 10.0 ** (float(rng.uniform(-40.0, -3.0)) / 20.0)
    offset = float(rng.uniform(-0.01, 0.01))
    x = x * (peak / max(float(np.abs(x).max()), 1e-30)) + offset
    return SimulatedRecording(x.astype(np.float32)[None, :], fs, encounter.truth, label, seed_name)
