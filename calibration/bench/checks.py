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
from calibration.fidelity import fidelity
from models.errors import EngineError
from models.score_cam import score_cam
from models.spec_cnn import SpecCnn

__all__ = ["LIMIT", "check", "rank_correlation", "true_to_all"]

F32 = npt.NDArray[np.float32]

#: Largest difference of logits and maps between an engine in f32 and torch.
LIMIT = 1e-4


def check(
    network: SpecCnn, x: F32, fill: float, engines: Sequence[Contestant], peers: Sequence[Contestant]
) -> list[dict[str, Any]]:
    """Figures of each engine and peer on the windows ``x``.

    Engines: largest difference of the logits from torch and of the maps from those of the first engine in f32 (which
    has passed the golden gate); and how true their maps are to Score-CAM by all channels: overlap of the highest cells
    and rank correlation, means over the windows. Peers: median over the windows of the rank
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
    ours = score_cam(network, t, cls, fill=fill).numpy()
    found: list[dict[str, Any]] = []
    first: F32 | None = None
    for c in engines:
        figures, cam = _engine_figures(c, x, logits.numpy(), first, ours)
        first = cam if first is None and c.precision == "f32" else first
        found.append(figures)
        for what in ("logits_max_abs", "cam_max_abs"):
            if c.precision == "f32" and not found[-1][what] <= LIMIT:
                raise EngineError(
                    f"{c.name}: {what} is {found[-1][what]:.3g}, allowed is {LIMIT:g}: it computes something else"
                )
    if peers:
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


def _engine_figures(c: Contestant, x: F32, logits: F32, first: F32 | None, full: F32) -> tuple[dict[str, Any], F32]:
    assert c.engine is not None
    out = c.engine.run(GRAPH, {"features": x})
    cam = np.array(out["cam"])
    iou, rank = fidelity(full, cam)
    return {
        "contestant": c.name,
        "precision": c.precision,
        "logits_max_abs": float(np.abs(out["logits"] - logits).max()),
        "cam_max_abs": 0.0 if first is None else float(np.abs(cam - first).max()),
        "iou": iou,
        "rank_correlation_full": rank,
    }, cam


def true_to_all(network: SpecCnn, engine: Contestant, x: F32, fill: float) -> dict[str, float | int]:
    """How true the maps of the likeliest vessel in each window of ``x`` are to Score-CAM by all channels.

    ``iou`` of the highest twentieth of the cells and ``rank_correlation``, means over the windows. Ambient, the last
    label, is never explained on board, so it is not asked for here.
    """
    assert engine.engine is not None
    t = torch.from_numpy(x)
    with torch.inference_mode():
        cls = network(t)[:, :-1].argmax(1)
    cams = []
    for i in range(0, len(x), engine.engine.max_batch):
        part = slice(i, i + engine.engine.max_batch)
        trunk = np.array(engine.engine.run("classify", {"features": x[part]})["trunk"])
        asked = {"trunk": trunk, "features": x[part], "cls": cls[part].numpy().astype(np.int32)}
        cams.append(np.array(engine.engine.run("explain", asked)["cam"]))
    full = np.concatenate(
        [score_cam(network, t[i : i + 4], cls[i : i + 4], fill=fill).numpy() for i in range(0, len(x), 4)]
    )
    iou, rank = fidelity(full, np.concatenate(cams))
    return {"iou": iou, "rank_correlation": rank, "n_windows": len(x)}


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
