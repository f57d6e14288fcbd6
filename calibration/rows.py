"""Figures for people and JSON: ratios in per cent, counts and areas as they are, what is not a number as null."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from calibration.metrics import Mean

__all__ = ["NO_RATIO", "finite", "per_cent", "table_row"]

#: Measures that are no ratio.
NO_RATIO = frozenset({"intersecting_regions", "tone_auc"})


def table_row(means: Mapping[str, Mean]) -> dict[str, float | None]:
    """Each measure and, as ``<measure>_se``, its standard error."""
    out: dict[str, float | None] = {}
    for key, mean in means.items():
        scale = 1.0 if key in NO_RATIO else 100.0
        out[key], out[f"{key}_se"] = finite(scale * mean.value), finite(scale * mean.se)
    return out


def per_cent(hits: npt.ArrayLike) -> float | None:
    """Share of hits; None of none."""
    h = np.asarray(hits, np.float64)
    return 100.0 * float(h.mean()) if h.size else None


def finite(value: float) -> float | None:
    """JSON knows no nan."""
    return value if math.isfinite(value) else None
