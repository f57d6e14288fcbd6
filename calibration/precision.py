"""What half precision costs: differences from the golden data, overlap of masks, and the change in Table I."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calibration.dataset import AMBIENT, WindowSet
from calibration.evaluate import Calibrated, evaluate
from calibration.reference import OnnxFiles, TorchGraphs
from models.bundle import Bundle
from models.explainer import Explainer

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
    reference: TorchGraphs, half: OnnxFiles, bundle: Bundle, lines: Calibrated, windows: WindowSet
) -> dict[str, Any]:
    """Compare the ``f16`` files with the reference on some windows of classes.

    Returns
    -------
    dict
        ``n_windows``, ``same_label`` (per cent), ``mask_iou`` (mean overlap of the cells above the 95 % quantile of
        Score-CAM mixed with the class mask), ``cam_max_abs``, and ``signature`` at the nominal threshold as mode
        ``full`` makes it with the half-precision graphs.
    """
    known = np.flatnonzero((windows.y >= 0) & (windows.y != windows.labels.index(AMBIENT)))
    some = windows.take(known[np.linspace(0, known.size - 1, min(N_WINDOWS, known.size)).astype(int)])
    same, overlap, worst = [], [], 0.0
    for i in range(0, len(some), half.max_batch):
        x, cls = some.features[i : i + half.max_batch], some.y[i : i + half.max_batch].astype(np.int32)
        out = []
        for graphs in (reference, half):
            classified = graphs.run("classify", {"features": x})
            maps = graphs.run("explain", {"trunk": classified["trunk"], "features": x, "cls": cls})
            out.append((classified["probs"].argmax(axis=1), maps["cam"], maps["mix"]))
        (named_a, cam_a, mix_a), (named_b, cam_b, mix_b) = out
        same += (named_a == named_b).tolist()
        worst = max(worst, float(np.abs(cam_a - cam_b).max()))
        for a, b in zip(mix_a, mix_b, strict=True):
            over_a, over_b = a > np.quantile(a, 0.95), b > np.quantile(b, 0.95)
            either = np.count_nonzero(over_a | over_b)
            overlap.append(np.count_nonzero(over_a & over_b) / either if either else 1.0)
    point = f"conformal_{round(100 * float(bundle.thresholds.nominal))}"
    result = evaluate(lines, Explainer(bundle, half, "full"), some)["signature"]
    return {
        "n_windows": len(some),
        "same_label": 100.0 * float(np.mean(same)),
        "mask_iou": float(np.mean(overlap)),
        "cam_max_abs": worst,
        "signature": None if result is None else result[point],
    }
