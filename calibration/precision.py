"""What half precision costs: differences from the golden data, overlap of masks, and the change in Table I."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calibration.dataset import AMBIENT, WindowSet
from calibration.evaluate import Calibrated, Graphs, evaluate, score_maps
from calibration.reference import OnnxFiles

__all__ = ["half_precision", "tolerances"]

#: Another runtime adds the products in another order than the one that is measured here.
MARGIN = 4.0
#: And a card may add them in half precision, which cannot be measured here: at least this share of the largest value.
HALF_FLOOR = 0.01
#: Windows compared.
N_WINDOWS = 60

Files = Mapping[tuple[str, str], bytes]
Golden = Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]


def _of(files: Files, precision: str) -> OnnxFiles:
    return OnnxFiles({name: file for (name, p), file in files.items() if p == precision})


def tolerances(files: Files, golden: Golden) -> dict[tuple[str, str], dict[str, float]]:
    """Largest differences from the golden outputs an engine may show.

    ``f32``: 1e-4, or for outputs without bound 2e-5 of their largest value. ``f16``: `MARGIN` times what ONNX Runtime
    shows with the same file, at least `HALF_FLOOR` of the largest value; the named class must be the same in both.
    """
    half = _of(files, "f16")
    out: dict[tuple[str, str], dict[str, float]] = {}
    for name, precision in files:
        inputs, want = golden[name]
        top = {n: float(np.abs(a).max()) for n, a in want.items()}
        if precision == "f16":
            measured = half.differences(name, inputs, want)
            allowed = {n: max(MARGIN * measured[n], HALF_FLOOR * top[n]) for n in want}
        else:
            allowed = {n: max(1e-4, 2e-5 * top[n]) for n in want}
        out[name, precision] = {n: 0.0 if want[n].dtype == np.int32 else value for n, value in allowed.items()}
    return out


def half_precision(
    files: Files, reference: Graphs, bundle: Calibrated, windows: WindowSet, nominal: str
) -> dict[str, Any]:
    """Compare the ``f16`` files with the reference on some windows of classes.

    Returns
    -------
    dict
        ``n_windows``, ``same_label`` (per cent), ``mask_iou`` (mean overlap of the masks at ``nominal``),
        ``cam_max_abs``, and ``signature`` of both precisions at that threshold.
    """
    known = np.flatnonzero((windows.y >= 0) & (windows.y != windows.labels.index(AMBIENT)))
    some = windows.take(known[np.linspace(0, known.size - 1, min(N_WINDOWS, known.size)).astype(int)])
    half = _of(files, "f16")
    same, overlap, worst = [], [], 0.0
    for a, b in zip(score_maps(reference, some, some.y), score_maps(half, some, some.y), strict=True):
        same += (a.probs.argmax(axis=1) == b.probs.argmax(axis=1)).tolist()
        worst = max(worst, float(np.abs(a.cam - b.cam).max()))
        for mix_a, mix_b, i in zip(a.mix, b.mix, a.index, strict=True):
            cut = bundle.mix_thresholds[some.labels[some.y[i]]][nominal]
            either = np.count_nonzero((mix_a > cut) | (mix_b > cut))
            overlap.append(np.count_nonzero((mix_a > cut) & (mix_b > cut)) / either if either else 1.0)
    point = f"conformal_{round(100 * float(nominal))}"
    signatures = {}
    for name, graphs in (("f32", reference), ("f16", half)):
        result = evaluate(bundle, graphs, some)["signature"]
        signatures[name] = None if result is None else result[point]
    return {
        "n_windows": len(some),
        "same_label": 100.0 * float(np.mean(same)),
        "mask_iou": float(np.mean(overlap)),
        "cam_max_abs": worst,
        "signature": signatures,
    }
