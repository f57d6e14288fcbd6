"""Per-channel energy normalisation, as used for birds and speech, along time and, as a LOFAR would, along frequency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from calibration.experiments.scene import Scene

__all__ = ["Pcen"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: The library expects audio scaled to 32-bit integers.
SCALE = 2.0**31
#: Rows of the smoother's time constant where it runs along frequency.
N_ROWS = 12


@dataclass(frozen=True, slots=True)
class Pcen:
    """Lostanlen et al., IEEE Signal Processing Letters 26(1), 2019, by librosa, with its own constants.

    The automatic gain follows each row along time, so whatever is steady is turned down: made for calls, not for
    tonals. Along frequency the same formula normalises the background; it then runs up and down and is averaged.

    Raises
    ------
    ImportError
        If librosa is not installed (when maps are asked for).
    """

    along: Literal["time", "frequency"] = "time"

    @property
    def name(self) -> str:
        """For tables."""
        return f"PCEN along {self.along}"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Normalised level, from 0."""
        from librosa import pcen

        spec = scene.spec
        out = np.zeros(scene.spectrum_db.shape, np.float32)
        for i, level in enumerate(scene.spectrum_db[:, spec.row_lo :]):
            magnitude = SCALE * 10.0 ** (level / 20.0)
            if self.along == "time":
                shown = pcen(magnitude, sr=spec.fs_model, hop_length=spec.hop)
            else:  # one "second" is one row
                there, back = (pcen(m, sr=1, hop_length=1, time_constant=N_ROWS, axis=0) for m in _both_ways(magnitude))
                shown = 0.5 * (there + back[::-1])
            out[i, spec.row_lo :] = shown
        return out


def _both_ways(m: F32) -> tuple[F32, F32]:
    return m, np.ascontiguousarray(m[::-1])
