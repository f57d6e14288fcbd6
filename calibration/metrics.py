r"""Table I of the paper, made computable: how good is a mask against the known tonals of a window.

Per window, on the cells ``V`` of the rows in use (``f >= f_lo_hz``):

* ``G`` tone cells of the target, ``D`` its don't-care ring, ``N = V \ (G u D)`` noise, ``M`` the cells kept;
* removed noise ``RN = 1 - |N n M| / |N|``; ``RN_int`` the same on the cells of ``N`` that hold foreign tonals or those
  of other vessels;
* overwritten tones ``OT = 1 - |G n M| / |G|``;
* intersecting tonal regions ``ITR``: of the canonical lines of *other* classes farther than 3 rows from any own line,
  how many have at least half of their band (+-1 row, all columns) kept;
* pixel precision ``|G n M| / |M n (G u N)|``, recall ``1 - OT`` and their F1;
* line Pd: of the target's lines present, the share with at least half of its band kept; line precision: of the
  connected regions of ``M`` that span at least ``MIN_REGION`` columns, the share with at least half of its cells in
  ``G u D``; line F1 their harmonic mean. A blob that covers a line is so no line found;
* free of thresholds: ``OT@RN(q)``, overwritten tones where the threshold is the ``q`` quantile of the map on ``N``, and
  the tone AUC, the probability that a tone cell scores above a noise cell.

Ratios are 0..1 here, nan where the denominator is empty; reports print per cent. Means are over recordings, so are
the standard errors: windows of one recording are no independent draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from calibration.truth import Truth, truth_masks
from models.features import FeatureSpec

__all__ = ["MIN_REGION", "NOISE_LEVELS", "Mean", "WindowTruth", "foreign_lines", "line_table", "mask_metrics",
           "mean_by_recording", "score_metrics"]  # fmt: skip

Mask = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]

#: Noise removal levels at which overwritten tones are read off a score map.
NOISE_LEVELS = (0.26, 0.86, 0.95, 0.99)
#: Columns a connected region must span to count as a line found (1 s at the default hop).
MIN_REGION = 8
#: Rows within which two lines count as the same.
SAME_LINE_ROWS = 3


@dataclass(frozen=True, slots=True, eq=False)
class WindowTruth:
    """What is known of one window, all masks ``(n_freq, n_time)``."""

    tone: Mask
    """Cells of the target's lines."""
    guard: Mask
    """Don't-care ring around them."""
    interferer: Mask
    """Cells of foreign lines."""
    other: Mask
    """Cells of other vessels' lines."""
    lines: tuple[Mask, ...]
    """Band of each of the target's lines that is present."""
    row_lo: int
    """First row in use."""

    @classmethod
    def of(cls, truth: Truth, spec: FeatureSpec, fs: int, first_sample: int, label: str) -> WindowTruth:
        """Truth of the window at ``first_sample`` (source samples at ``fs`` Hz) as seen by ``label``."""
        whole = truth_masks(truth, spec, fs, first_sample, label)
        single = (Truth(truth.labels, (line,)) for line in truth.lines if line.label == label)
        bands = (truth_masks(one, spec, fs, first_sample, label).tone for one in single)
        lines = tuple(b for b in bands if b[spec.row_lo :].any())
        return cls(whole.tone, whole.guard, whole.interferer, whole.other, lines, spec.row_lo)

    @property
    def in_use(self) -> Mask:
        """Rows in use."""
        valid = np.zeros(self.tone.shape, bool)
        valid[self.row_lo :] = True
        return valid

    @property
    def target(self) -> Mask:
        """``G``: tone cells in use."""
        return self.tone & self.in_use

    @property
    def noise(self) -> Mask:
        """``N``: cells in use that are neither tone nor don't-care."""
        return self.in_use & ~self.tone & ~self.guard


def _share(part: Mask, whole: Mask) -> float:
    """Share of the cells of ``whole`` that lie in ``part``; nan if it has none."""
    n = int(np.count_nonzero(whole))
    return int(np.count_nonzero(part & whole)) / n if n else math.nan


def _harmonic(a: float, b: float) -> float:
    if math.isnan(a) or math.isnan(b):
        return math.nan
    return 2 * a * b / (a + b) if a + b else 0.0


def mask_metrics(mask: Mask, truth: WindowTruth, foreign_rows: npt.ArrayLike = ()) -> dict[str, float]:
    """Table I of one binary mask ``(n_freq, n_time)``; see the module text.

    Parameters
    ----------
    mask
        Cells kept.
    truth
        The window's truth.
    foreign_rows
        Canonical lines of other classes, in rows, see `foreign_lines`.

    Returns
    -------
    dict
        ``removed_noise, removed_noise_int, overwritten_tones, intersecting_regions, precision, recall, pixel_f1,
        line_pd, line_precision, line_f1``.

    Raises
    ------
    ValueError
        If mask and truth differ in shape.
    """
    if mask.shape != truth.tone.shape:
        raise ValueError(f"mask of shape {mask.shape} does not fit a truth of shape {truth.tone.shape}")
    kept = mask & truth.in_use
    target, noise = truth.target, truth.noise
    recall = _share(kept, target)
    precision = _share(target, kept & (target | noise))
    if math.isnan(precision) and target.any():
        precision = 0.0  # nothing kept where something was to be found
    bands = [_share(kept, band & truth.in_use) for band in truth.lines]
    found = [b >= 0.5 for b in bands if not math.isnan(b)]
    line_pd = sum(found) / len(found) if found else math.nan
    line_precision = _region_precision(kept, target | (truth.guard & truth.in_use))
    if math.isnan(line_precision) and found:
        line_precision = 0.0
    return {
        "removed_noise": 1 - _share(kept, noise),
        "removed_noise_int": 1 - _share(kept, noise & (truth.interferer | truth.other)),
        "overwritten_tones": 1 - recall,
        "intersecting_regions": float(sum(_band_kept(mask, row) >= 0.5 for row in np.atleast_1d(foreign_rows))),
        "precision": precision,
        "recall": recall,
        "pixel_f1": _harmonic(precision, recall),
        "line_pd": line_pd,
        "line_precision": line_precision,
        "line_f1": _harmonic(line_precision, line_pd),
    }


def _band_kept(mask: Mask, row: float) -> float:
    """Share kept of the band of +-1 row around ``row``, over all columns."""
    centre = round(row)
    return float(mask[max(0, centre - 1) : centre + 2].mean())


def _region_precision(kept: Mask, target: Mask) -> float:
    """Share of the connected regions of ``kept`` that lie mostly in ``target``; nan if there are none."""
    regions, _ = ndimage.label(kept, np.ones((3, 3), bool))
    hits = []
    for i, box in enumerate(ndimage.find_objects(regions), start=1):
        if box[1].stop - box[1].start >= MIN_REGION:
            inside = regions[box] == i
            hits.append(_share(target[box], inside) >= 0.5)
    return sum(hits) / len(hits) if hits else math.nan


def score_metrics(score: npt.NDArray[np.floating], truth: WindowTruth) -> dict[str, float]:
    """Threshold-free measures of a score map ``(n_freq, n_time)``: ``tone_auc`` and ``ot_at_rn_<per cent>``.

    All nan in a window without tone cells.
    """
    tone = np.asarray(score[truth.target], np.float64)
    noise = np.asarray(score[truth.noise], np.float64)
    names = [f"ot_at_rn_{round(100 * level)}" for level in NOISE_LEVELS]
    if not tone.size or not noise.size:
        return dict.fromkeys(["tone_auc", *names], math.nan)
    ranks = stats.rankdata(np.concatenate([tone, noise]))
    # Mann-Whitney: rank sum of the tone cells less its least possible value
    auc = (float(ranks[: tone.size].sum()) - tone.size * (tone.size + 1) / 2) / (tone.size * noise.size)
    cuts = np.quantile(noise, NOISE_LEVELS)
    return {"tone_auc": auc} | {n: float(np.mean(tone <= cut)) for n, cut in zip(names, cuts, strict=True)}


def foreign_lines(tables: Mapping[str, npt.ArrayLike], label: str, bin_hz: float, n_freq: int) -> F64:
    """Canonical lines of all other classes that no own line of ``label`` is near, in rows.

    Parameters
    ----------
    tables
        Class label to its canonical lines, Hz.
    label
        The target.
    bin_hz, n_freq
        Width and number of rows; lines above the last row are left out.
    """
    own = np.asarray(tables.get(label, ()), np.float64) / bin_hz
    rows = [np.asarray(f, np.float64) / bin_hz for name, f in tables.items() if name != label]
    all_rows = np.concatenate(rows) if rows else np.zeros(0)
    near = np.abs(all_rows[:, None] - own[None, :]).min(axis=1, initial=np.inf)
    keep: F64 = all_rows[(near > SAME_LINE_ROWS) & (all_rows <= n_freq - 1)]
    return keep


def line_table(recordings: Iterable[Sequence[float]], bin_hz: float, min_share: float = 0.25) -> F64:
    """Canonical lines of a class, Hz, from the line frequencies of its recordings (for truth brought from outside).

    Lines nearer than 3 rows to their neighbour form one group; a group is canonical if at least ``min_share`` of the
    recordings have a line in it, and stands at its median.
    """
    lists = [list(lines) for lines in recordings]
    pairs = sorted((f, i) for i, lines in enumerate(lists) for f in lines)
    groups: list[list[tuple[float, int]]] = []
    for f, i in pairs:
        # bounded in width too (shaft speed varies by some per cent): a chain of neighbours must not swallow the band
        width = max(2 * SAME_LINE_ROWS * bin_hz, 0.06 * f)
        if groups and f - groups[-1][-1][0] < SAME_LINE_ROWS * bin_hz and f - groups[-1][0][0] < width:
            groups[-1].append((f, i))
        else:
            groups.append([(f, i)])
    need = min_share * len(lists)
    kept = [float(np.median([f for f, _ in g])) for g in groups if len({i for _, i in g}) >= need]
    return np.asarray(kept, np.float64)


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean over recordings and its standard error; both nan without data, the error nan with one recording."""

    value: float
    se: float
    n_recordings: int


def mean_by_recording(rows: Sequence[Mapping[str, float]], recordings: Sequence[object]) -> dict[str, Mean]:
    """Average per recording, then over recordings; nan values are left out.

    Parameters
    ----------
    rows
        One map of measures per window, all with the same keys.
    recordings
        The recording (or vessel) each window belongs to.
    """
    if len(rows) != len(recordings):
        raise ValueError(f"{len(rows)} rows, but {len(recordings)} recordings")
    out: dict[str, Mean] = {}
    for key in rows[0] if rows else ():
        per: dict[object, list[float]] = {}
        for row, recording in zip(rows, recordings, strict=True):
            if not math.isnan(row[key]):
                per.setdefault(recording, []).append(row[key])
        means = np.array([np.mean(v) for v in per.values()])
        n = means.size
        se = float(means.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
        out[key] = Mean(float(means.mean()) if n else math.nan, se, n)
    return out
