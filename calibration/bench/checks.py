"""What is checked before anything is timed: all contestants explain the same network, and explain it alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch.nn import functional

from calibration.bench.contestants import GRAPH, Contestant
from models.errors import EngineError
from models.score_cam import score_cam
from models.spec_cnn import SpecCnn

__all__ = ["LIMIT", "check", "rank_correlation"]

F32 = npt.NDArray[np.float32]

#: Largest difference of logits and maps between an engine in f32 and torch.
LIMIT = 1e-4


def check(
    network: SpecCnn, x: F32, k: int, fill: float, engines: Sequence[Contestant], peers: Sequence[Contestant]
) -> list[dict[str, Any]]:
    """Figures of each engine and peer on the windows ``x``.

    Engines: largest difference of logits and of maps (top k) from torch. Peers: median over the windows of the rank
    correlation of their map with our reference by all channels, as we compute it and in the peers' own form (masked to
    zero, softmax over the maps, sum of activations).

    Raises
    ------
    EngineError
        If an engine in f32 differs by more than `LIMIT`: the contestants would not be equal.
    """
    t = torch.from_numpy(x)
    with torch.inference_mode():
        logits = network(t)
        cls = logits.argmax(1)
        top_k = score_cam(network, t, cls, fill=fill, channels=k).numpy()
    found: list[dict[str, Any]] = []
    for c in engines:
        found.append(_engine_figures(c, x, logits.numpy(), top_k))
        for what in ("logits_max_abs", "cam_max_abs"):
            if c.precision == "f32" and not found[-1][what] <= LIMIT:
                raise EngineError(
                    f"{c.name}: {what} is {found[-1][what]:.3g} from the network rebuilt in torch, allowed is {LIMIT:g}"
                )
    if peers:
        ours = score_cam(network, t, cls, fill=fill).numpy()
        theirs = score_cam(network, t, cls, fill=0.0, weighting="softmax", sum_activations=True).numpy()
        for c in peers:
            maps = _full_size(c.ways(len(x))[-1].run(x), x.shape[2:])
            found.append(
                {
                    "contestant": c.name,
                    "rank_correlation": rank_correlation(maps, ours),
                    "rank_correlation_own_form": rank_correlation(maps, theirs),
                }
            )
    return found


def _engine_figures(c: Contestant, x: F32, logits: F32, cam: F32) -> dict[str, Any]:
    assert c.engine is not None
    out = c.engine.run(GRAPH, {"features": x})
    return {
        "contestant": c.name,
        "precision": c.precision,
        "logits_max_abs": float(np.abs(out["logits"] - logits).max()),
        "cam_max_abs": float(np.abs(out["cam"] - cam).max()),
    }


def rank_correlation(a: F32, b: F32) -> float | None:
    """Median over the maps of Spearman's rank correlation; None if every map of either is flat."""
    found = []
    for one, other in zip(a, b, strict=True):
        if np.ptp(one) > 0.0 and np.ptp(other) > 0.0:
            found.append(float(np.corrcoef(rankdata(one), rankdata(other))[0, 1]))
    return float(np.median(found)) if found else None


def _full_size(maps: F32, size: tuple[int, ...]) -> F32:
    """Maps enlarged to the size of the window, where a peer leaves that to its user."""
    if maps.shape[1:] == size:
        return maps
    out: F32 = functional.interpolate(torch.from_numpy(maps)[:, None], size=size, mode="bilinear")[:, 0].numpy()
    return out
