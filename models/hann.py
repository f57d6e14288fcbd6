"""The Hann window, as ``scipy.signal`` gives it to the bit; that package alone would take a third of the start-up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["hann"]


def hann(n: int, *, symmetric: bool = False) -> npt.NDArray[np.float64]:
    """``cos^2`` over ``n`` samples; periodic, as frames of a spectrum want it, or with both ends 0."""
    angle = np.linspace(-np.pi, np.pi, n if symmetric else n + 1)[:n]
    return 0.5 + 0.5 * np.cos(angle)
