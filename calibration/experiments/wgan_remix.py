"""The generator's simplest rival: windows of a label with other noise mixed in, nothing learnt, no line moved."""

from __future__ import annotations

import numpy as np

from models.dataset import Dataset
from models.features import FeatureSpec
from models.wgan_generated import Generated, Provenance

__all__ = ["remix"]

#: Largest share of power that comes from the other window.
MOST_NOISE = 0.6


def remix(real: Dataset, ambient: int, seed: int) -> Generated:
    """One window for each of ``real``: rolled along time, its power mixed with a source-free window's, rolled too.

    Parameters
    ----------
    real
        Training windows.
    ambient
        Label index of the source-free windows among them.
    seed
        Of the draw.

    Raises
    ------
    ValueError
        If there are no source-free windows.
    """
    noise = np.flatnonzero(real.y == ambient)
    if not noise.size:
        raise ValueError("no source-free windows to mix in")
    spec, rng = FeatureSpec(), np.random.default_rng(seed)
    span = spec.ceil_db - spec.floor_db
    n_time = real.features.shape[3]
    out = np.empty_like(real.features)
    for i, x in enumerate(real.features):
        own, other = (
            10.0 ** ((np.roll(w, int(rng.integers(n_time)), axis=2) * span + spec.floor_db) / 10.0)
            for w in (x, real.features[rng.choice(noise)])
        )
        share = rng.uniform(0.0, MOST_NOISE)
        level_db = 10.0 * np.log10((1.0 - share) * own + share * other)
        out[i] = np.clip((level_db - spec.floor_db) / span, 0.0, 1.0)
        out[i, :, : spec.row_lo] = spec.fill
    return Generated(out, real.y, real.labels, Provenance(method="remix", seed=seed, trained_on=real.fingerprint()))
