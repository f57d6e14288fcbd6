"""Endless simulated ocean of several hydrophones, each on a schedule of its own."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.ocean_physics import CHUNK_S, rng_of
from calibration.ocean_scene import Encounter
from calibration.ocean_sea import Hydrophone
from calibration.scenarios import AMBIENT, Scenario, SeedSpace
from models.errors import UsageError

__all__ = ["OceanStream", "ScheduleItem"]

F32 = npt.NDArray[np.float32]

_RECORDER = 9  # stream of a seed: gain, offset and order
_N_REMEMBERED = 256  # segments whose labels can still be asked


@dataclass(frozen=True, slots=True)
class ScheduleItem:
    """What a channel of a stream hears next."""

    label: str
    duration_s: float
    """Rounded up to whole chunks of 2 s."""


class _Channel:
    """One hydrophone of a stream and what it hears."""

    def __init__(self, scenario: Scenario, seed_name: str, fs: int, schedule: Sequence[ScheduleItem] | None) -> None:
        self._scenario, self._seed_name, self._schedule = scenario, seed_name, schedule
        self._sea = Hydrophone(scenario, seed_name, fs)
        rng = rng_of(seed_name, _RECORDER)
        # quiet enough that a ship abeam stays in range; what is louder still clips, as it does in a converter
        self._gain = 10.0 ** (float(rng.uniform(-75.0, -60.0)) / 20.0) / self._sea.rms
        self._offset = float(rng.uniform(-0.01, 0.01))
        self._ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(CHUNK_S * fs) + 0.5) / (CHUNK_S * fs))
        self._upcoming: deque[ScheduleItem] = deque()
        self._n_segments = 0
        self._next_chunk = self._first_chunk = self._end_chunk = 0
        self._encounter: Encounter | None = None
        self.heard: deque[tuple[int, int, tuple[str, ...]]] = deque(maxlen=_N_REMEMBERED)
        """``(first chunk, end chunk, labels)`` of the latest segments."""

    def _next_item(self) -> ScheduleItem:
        if self._schedule is not None:
            return self._schedule[self._n_segments % len(self._schedule)]
        if not self._upcoming:  # each class once, in a new order, with ambient noise between
            rng = rng_of(self._seed_name, _RECORDER, self._n_segments)
            for i in rng.permutation(len(self._scenario.classes)):
                self._upcoming.append(
                    ScheduleItem(self._scenario.classes[int(i)].label, float(rng.uniform(30.0, 50.0)))
                )
                self._upcoming.append(ScheduleItem(AMBIENT, float(rng.uniform(14.0, 24.0))))
        return self._upcoming.popleft() if self._upcoming else ScheduleItem(AMBIENT, 60.0)

    def _open_segment(self) -> Encounter:
        item = self._next_item()
        n_chunks = max(1, math.ceil(item.duration_s / CHUNK_S))
        seed_name = f"{self._seed_name}/{self._n_segments}/{item.label}"
        encounter = Encounter(
            self._scenario, seed_name, item.label, float(n_chunks * CHUNK_S), self._sea, hum_over_all=False
        )
        self._first_chunk, self._end_chunk = self._end_chunk, self._end_chunk + n_chunks
        self._n_segments += 1
        self.heard.append((self._first_chunk, self._end_chunk, encounter.labels))
        return encounter

    def chunk(self) -> F32:
        """Next chunk, shape ``(CHUNK_S * fs,)``."""
        k = self._next_chunk
        if self._encounter is None or k == self._end_chunk:
            self._encounter = self._open_segment()
        passing = self._encounter.chunk(k - self._first_chunk)
        if k == self._first_chunk and k > 0:
            passing *= self._ramp
        if k == self._end_chunk - 1:
            passing *= self._ramp[::-1]
        x = self._sea.chunk(k) + self._sea.hum_chunk(k, self._encounter.hum_amplitudes) + passing
        self._next_chunk += 1
        out: F32 = np.clip(x * self._gain + self._offset, -1.0, 1.0).astype(np.float32)
        return out


class OceanStream:
    """Endless simulated ocean of several hydrophones; blocks of any size give the same samples.

    Each channel has noise, recorder and schedule of its own. Vessels come and go within 2 s; the first segment sounds
    from sample 0.

    Parameters
    ----------
    scenario : Scenario
    space : SeedSpace
    index : int
        From 0; another index is another sea.
    fs : int
        2000 to 192000 Hz.
    n_channels : int
    schedule : sequence of ScheduleItem, optional
        What every channel hears, over and over (each time with new noise). By default drawn per channel: each class in
        turn for 30 to 50 s, a class first, ambient noise of 14 to 24 s between.

    Raises
    ------
    SampleRateError
        If ``fs`` is out of range.
    UsageError
        If a label of the schedule is unknown, or a number is out of range.
    """

    def __init__(
        self,
        scenario: Scenario,
        space: SeedSpace,
        index: int,
        fs: int,
        n_channels: int,
        schedule: Sequence[ScheduleItem] | None = None,
    ) -> None:
        if n_channels < 1:
            raise UsageError(f"a simulated ocean needs at least one channel, not {n_channels}")
        if schedule is not None:
            if not schedule:
                raise UsageError("the schedule of the simulated ocean is empty")
            for item in schedule:
                scenario.canonical_lines(item.label)
        self.scenario, self.fs, self.n_channels = scenario, fs, n_channels
        name = scenario.seed_name(space, index, "stream")
        self._channels = [_Channel(scenario, f"{name}/{c}", fs, schedule) for c in range(n_channels)]
        self._rest: F32 = np.zeros((n_channels, 0), np.float32)
        self._position = 0

    @property
    def position(self) -> int:
        """Next sample to be read."""
        return self._position

    def read(self, n_samples: int) -> F32:
        """Next ``n_samples`` of all channels, shape ``(n_channels, n_samples)``, full scale 1."""
        parts, n = [self._rest], self._rest.shape[1]
        while n < n_samples:
            parts.append(np.stack([c.chunk() for c in self._channels]))
            n += parts[-1].shape[1]
        x = np.concatenate(parts, axis=1) if len(parts) > 1 else self._rest
        self._rest = x[:, n_samples:]
        self._position += n_samples
        return x[:, :n_samples]

    def labels_at(self, sample: int, channel: int = 0) -> tuple[str, ...]:
        """Classes that truly sound at ``sample``; empty for ambient noise.

        Raises
        ------
        ValueError
            If the sample has not been read yet, or lies many segments back.
        """
        chunk = sample // (CHUNK_S * self.fs)
        for first, end, labels in reversed(self._channels[channel].heard):
            if first <= chunk < end:
                return labels
        raise ValueError(f"{sample=} of {channel=} is not known: not read yet, or longer ago than is kept")
