r"""How good are the score maps of a method: thresholds fixed on source-free windows, then Table I on test windows.

Nothing but source-free windows sets the thresholds: for each nominal share ``q`` the conformal quantile of all cells
in use (`calibration.thresholds`), for class-gated methods once per class asked for. Then, for each test window,

* ``conformal_<per cent>``: the mask ``map > threshold`` by `calibration.metrics.mask_metrics`;
* ``cut_<per cent>``: the mask of the paper, the map stretched to 0..1 and cut there;
* ``threshold_free``: `calibration.metrics.score_metrics` of the map.

A class-gated method is asked for the class that the network names, not for the true one. Where the network names
ambient nothing would be published: the mask is empty and the map flat, which counts as all tones overwritten.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.dataset import AMBIENT
from calibration.experiments.scene import Method, Scene
from calibration.experiments.trial import Trial
from calibration.masks import minmax
from calibration.metrics import Mean, WindowTruth, mask_metrics, mean_by_recording, score_metrics
from calibration.thresholds import conformal_quantile

__all__ = ["LEVELS", "Judgement", "judge", "judge_masks", "point_of", "thresholds_of"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Nominal shares of noise removed.
LEVELS = (0.86, 0.95, 0.99)


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """The figures of one method."""

    name: str
    rows: tuple[Mapping[str, Mapping[str, float]], ...]
    """One per window: operating point to its measures, see `calibration.metrics`; ratios are 0..1."""
    groups: tuple[str, ...]
    """Recording of each window."""
    ms_per_window: float
    """Time to map one test window, ms, on this machine; nan where no map was made."""

    @property
    def points(self) -> tuple[str, ...]:
        """Operating points."""
        return tuple(self.rows[0])

    def means(self, point: str) -> dict[str, Mean]:
        """Means over recordings and their standard errors, at one operating point."""
        return mean_by_recording([row[point] for row in self.rows], self.groups)


def point_of(kind: str, share: float) -> str:
    """Name of an operating point, as ``conformal_95``."""
    return f"{kind}_{round(100 * share)}"


def thresholds_of(method: Method, calm: Scene, levels: Sequence[float] = LEVELS, *, gated: bool) -> dict[float, F64]:
    """Conformal thresholds of a method: level to ``(n_labels,)``, from source-free windows.

    A class-gated method is asked for each class; its threshold for ambient is infinite. Others have one for all.
    """
    labels, row_lo = calm.windows.labels, calm.spec.row_lo
    out = {q: np.full(len(labels), np.inf) for q in levels}
    classes = [i for i, label in enumerate(labels) if label != AMBIENT]
    for c in classes if gated else classes[:1]:
        cells = _maps(method, calm, np.full(len(calm), c))[:, row_lo:]
        for q in levels:
            out[q][c if gated else slice(None)] = conformal_quantile(cells, q)
    return out


def judge(
    method: Method, trial: Trial, *, gated: bool, levels: Sequence[float] = LEVELS, cuts: Sequence[float] = ()
) -> Judgement:
    """Judge the maps of a method on a trial.

    Parameters
    ----------
    gated
        Whether the maps depend on the class asked for.
    levels
        Nominal shares of noise removed on source-free windows.
    cuts
        Cuts of the map stretched to 0..1, window by window, as the paper has them.

    Raises
    ------
    ValueError
        If the method's maps have another shape than the windows, or are not finite.
    """
    thresholds = thresholds_of(method, trial.calm, levels, gated=gated)
    start = time.perf_counter()
    maps = _maps(method, trial.test, trial.asked)
    ms = 1e3 * (time.perf_counter() - start) / len(maps)
    ambient = trial.labels.index(AMBIENT)
    rows = []
    for score, asked, truth, foreign in zip(maps, trial.asked, trial.truths, trial.foreign_rows, strict=True):
        silent = gated and asked == ambient
        shown = np.zeros_like(score) if silent else score
        row = {"threshold_free": score_metrics(shown, truth)}
        for q in levels:
            kept = (shown > thresholds[q][asked]) & (not silent)
            row[point_of("conformal", q)] = _measures(kept, truth, foreign)
        stretched = minmax(shown)
        for cut in cuts:
            row[point_of("cut", cut)] = _measures(stretched > cut, truth, foreign)
        rows.append(row)
    return Judgement(method.name, tuple(rows), trial.groups, ms)


def judge_masks(name: str, masks: Sequence[Mask], trial: Trial) -> Judgement:
    """Judge given masks, one per window, as the one operating point ``mask``."""
    rows = [
        {"mask": _measures(m, truth, foreign)}
        for m, truth, foreign in zip(masks, trial.truths, trial.foreign_rows, strict=True)
    ]
    return Judgement(name, tuple(rows), trial.groups, float("nan"))


def _measures(kept: Mask, truth: WindowTruth, foreign_rows: F64) -> dict[str, float]:
    """Table I, and apart the shares removed of the cells of foreign lines and of other vessels' lines."""
    out = mask_metrics(kept, truth, foreign_rows)
    for key, cells in (("foreign_removed", truth.interferer), ("other_removed", truth.other)):
        of = cells & truth.noise
        out[key] = float(np.mean(~kept[of])) if of.any() else float("nan")
    return out


def _maps(method: Method, scene: Scene, cls: npt.NDArray[np.integer]) -> F32:
    maps = method.maps(scene, np.asarray(cls, np.int64))
    if maps.shape != (shape := (len(scene), *scene.spec.shape[1:])):
        raise ValueError(f"'{method.name}' gave maps of shape {maps.shape}, the windows have {shape}")
    if not np.isfinite(maps[:, scene.spec.row_lo :]).all():
        raise ValueError(f"'{method.name}' gave maps that are not finite")
    return np.nan_to_num(maps).astype(np.float32, copy=False)
