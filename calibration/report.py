"""The report a bundle carries: ``report.json``, one HTML page, and pictures.

Everything on the page is computed from the evaluation; where the data were simulated, page and pictures say so.
"""

from __future__ import annotations

import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.features import FeatureSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Example", "write_report"]

F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: Rows of the table, in print order.
POINTS = {
    "conformal_86": "conformal 0.86",
    "conformal_95": "conformal 0.95",
    "conformal_99": "conformal 0.99",
    "cut_65": "fixed cut 0.65",
    "cut_75": "fixed cut 0.75",
    "cut_85": "fixed cut 0.85",
}
#: Columns of the table: key and heading.
COLUMNS = {
    "removed_noise": "removed noise %",
    "overwritten_tones": "overwritten tones %",
    "intersecting_regions": "intersecting regions",
    "removed_noise_int": "foreign tonals removed %",
    "line_pd": "line Pd %",
    "line_f1": "line F1 %",
    "pixel_f1": "pixel F1 %",
}
#: The paper's own Table I, for comparison (other data, other truth).
PAPER = {"fixed cut 0.65": (26, 4, "15+"), "fixed cut 0.75": (86, 8, "2"), "fixed cut 0.85": (95, 59, "0")}


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One window for the pictures; arrays ``(n_freq, n_time)``."""

    title: str
    features: F32
    cam: F32
    class_mask: F32
    mix: F32
    mask: Mask
    """Cells of the signature."""
    tone: Mask
    guard: Mask
    foreign: Mask
    """Cells of foreign lines and of other vessels."""


def write_report(
    folder: Path,
    *,
    results: Mapping[str, Any],
    examples: Sequence[Example],
    spec: FeatureSpec,
    history: Mapping[str, Sequence[float]],
    elbows: Mapping[str, tuple[Sequence[int], Sequence[float], int]],
    synthetic: bool,
) -> None:
    """Write the report into ``folder``, which must exist.

    Parameters
    ----------
    results
        ``evaluation`` (see `calibration.evaluate.evaluate`) and anything else worth keeping; written as JSON.
    history
        Curves of the training by epoch.
    elbows
        Label to numbers of clusters tried, their inertia, and the number taken.
    synthetic
        Whether the data were simulated.
    """
    text = json.dumps({"synthetic": synthetic, **results}, indent=1, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    pictures = []
    for i, example in enumerate(examples, start=1):
        pictures.append((f"window_{i}.png", example.title))
        _save(_example_figure(example, spec, synthetic), folder / pictures[-1][0])
    evaluation = results["evaluation"]
    _save(_summary_figure(evaluation, history, elbows), folder / "summary.png")
    page = _page(results, pictures, synthetic)
    (folder / "index.html").write_text(page, encoding="utf-8")


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG of at most 96 colours: a third of the size, no visible loss on these pictures."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    with Image.open(buffer) as image:
        image.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)


def _figure(width: float, height: float) -> Figure:
    """A figure without pyplot: no backend is chosen, no global state is left behind."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _example_figure(example: Example, spec: FeatureSpec, synthetic: bool) -> Figure:
    """Six panels: input, CAM, class mask, mix, signature, truth; cells of value zero are white in the signature."""
    from matplotlib.colors import ListedColormap

    figure = _figure(13.5, 3.6)
    axes = figure.subplots(1, 6, sharex=True, sharey=True)
    extent = (0.0, spec.n_time * spec.column_s, 0.0, spec.f_hi_hz)
    truth = np.select([example.tone, example.guard, example.foreign], [1, 2, 3], 0)
    signature = np.ma.masked_where(~example.mask, example.features)
    panels: list[tuple[str, Any, Any, float]] = [
        ("input", example.features, "viridis", 1.0),
        ("image CAM", example.cam, "magma", 1.0),
        ("class mask", example.class_mask, "magma", 1.0),
        ("score map", example.mix, "magma", 1.0),
        ("signature", signature, "viridis", 1.0),
        ("truth: tone, ring, foreign", truth, ListedColormap(["white", "#1b5e9b", "#d6e4f0", "#d9822b"]), 3.0),
    ]
    for axis, (title, image, colours, top) in zip(axes, panels, strict=True):
        axis.imshow(
            image, origin="lower", aspect="auto", extent=extent, cmap=colours, vmin=0.0, vmax=top,
            interpolation="nearest",
        )  # fmt: skip
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("time / s", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_facecolor("white")
    axes[0].set_ylabel("frequency / Hz", fontsize=8)
    figure.suptitle(example.title + ("   (synthetic)" if synthetic else ""), fontsize=10)
    return figure


def _summary_figure(
    evaluation: Mapping[str, Any],
    history: Mapping[str, Sequence[float]],
    elbows: Mapping[str, tuple[Sequence[int], Sequence[float], int]],
) -> Figure:
    """Training curves, confusion, elbow."""
    figure = _figure(13.5, 3.6)
    curves, confusion, knee = figure.subplots(1, 3)
    for name, values in history.items():
        curves.plot(np.arange(1, len(values) + 1), values, label=name.replace("_", " "))
    curves.set(title="training", xlabel="epoch", ylim=(0, None))
    if history:
        curves.legend(fontsize=7)
    counts = np.asarray(evaluation["confusion"], np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    confusion.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    for (i, j), n in np.ndenumerate(counts):
        if n:
            confusion.text(
                j, i, f"{n:.0f}", ha="center", va="center", fontsize=8, color="w" if share[i, j] > 0.5 else "k"
            )
    labels = evaluation["labels"]
    confusion.set_xticks(range(len(labels)), labels, fontsize=7, rotation=20)
    confusion.set_yticks(range(len(labels)), labels, fontsize=7)
    confusion.set(title="windows: true (rows), named (columns)")
    for label, (tried, inertia, taken) in elbows.items():
        (line,) = knee.plot(tried, inertia, label=f"{label}: {taken}")
        if taken in tried:
            knee.plot(taken, inertia[list(tried).index(taken)], "o", color=line.get_color())
    knee.set(title="k-means: inertia and elbow", xlabel="clusters", ylim=(0, None))
    if elbows:
        knee.legend(fontsize=7)
    return figure


def _number(values: Mapping[str, Any], key: str) -> str:
    value, se = values.get(key), values.get(f"{key}_se")
    if value is None:
        return "-"
    digits = 2 if key == "intersecting_regions" else 1
    error = "" if se is None or math.isnan(se) else f" &plusmn; {se:.{digits}f}"
    return f"{value:.{digits}f}{error}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{h}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _page(results: Mapping[str, Any], pictures: Sequence[tuple[str, str]], synthetic: bool) -> str:
    e = results["evaluation"]
    parts = [
        "<!doctype html><meta charset=utf-8><title>tonald bundle</title><style>body{font:15px sans-serif;margin:2em;"
        "max-width:1120px}table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;border-bottom:1px solid "
        "#ccc;text-align:right}td:first-child,th:first-child{text-align:left}img{max-width:100%}.note{background:#fff3d6;"
        "padding:.6em 1em}</style><h1>Bundle report</h1>"
    ]
    if synthetic:
        parts.append(
            "<p class=note><b>Synthetic.</b> Trained, calibrated and tested on the simulated ocean only, on "
            "seeds apart. These figures say nothing about real vessels.</p>"
        )
    parts.append(f"<p>Evaluated on: {html.escape(str(results['evaluated_on']))}.</p>")
    parts.append("<h2>Classification</h2>")
    rows = [
        [html.escape(label), _number(c, "accuracy"), _number(c, "accuracy_recordings"), _number(c, "rejected"),
         str(c["n_windows"]), str(c["n_recordings"])]
        for label, c in e["per_class"].items()
    ]  # fmt: skip
    whole = [_number(e, "accuracy"), _number(e, "accuracy_recordings"), _number(e["unknown"], "rejected_known")]
    rows.append(["all", *whole, str(e["n_windows"]), str(e["n_recordings"])])
    parts.append(
        _table(["label", "windows right %", "recordings right %", "called unknown %", "windows", "recordings"], rows)
    )
    u = e["unknown"]
    if u["auroc"] is not None:
        parts.append(
            f"<p>Vessels of no known class: {u['rejected_strange']:.1f} % of windows called unknown, "
            f"{u['named_strange']:.1f} % named as a class; AUROC against known vessels {u['auroc']:.3f}, against "
            f"source-free windows {_text(u['auroc_ambient'])}.</p>"
        )
    if e["signature"] is not None:
        parts.append(_signature_tables(e))
    if (half := results.get("f16")) is not None:
        parts.append(
            f"<h2>Half precision</h2><p>Trunk in float16 against float32 on {half['n_windows']} windows: same label in "
            f"{half['same_label']:.1f} %, overlap (IoU) of the masks {half['mask_iou']:.3f}.</p>"
        )
    if (cam := results.get("score_cam")) is not None:
        parts.append(_passes(cam))
    parts.append("<h2>Training, confusion, representatives</h2><img src=summary.png alt='training, confusion, elbow'>")
    if pictures:
        parts.append("<h2>Windows</h2>")
    parts += [f"<p><img src={name} alt='{html.escape(title)}'></p>" for name, title in pictures]
    return "\n".join(parts) + "\n"


def _passes(cam: Mapping[str, Any]) -> str:
    """How true the maps are by forward passes and by what weighs the channels."""
    rows = [
        [f"{r['n_columns']} columns, all channels told", str(r["k"]), f"{r['iou']:.3f}", f"{r['rank_correlation']:.3f}"]
        for r in cam["curve"]
    ]
    rows += [
        [
            f"only the channels of greatest {r['criterion']}",
            str(r["k"]),
            f"{r['iou']:.3f}",
            f"{r['rank_correlation']:.3f}",
        ]
        for r in cam["chosen"]
    ]
    return (
        f"<h2>Passes of Score-CAM</h2><p>Taken: {cam['k']} passes. Against Score-CAM by all channels, on windows of "
        "other recordings: overlap (IoU) of the highest twentieth of the cells, and rank correlation.</p>"
        + _table(["weights", "passes", "IoU", "rank correlation"], rows)
    )


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signature_tables(e: Mapping[str, Any]) -> str:
    rows = []
    for key, name in POINTS.items():
        if key in e["signature"]:
            rows.append([name, *(_number(e["signature"][key], c) for c in COLUMNS)])
    rows += [
        [f"paper, {name} (other data)", str(rn), str(ot), itr, "", "", "", ""] for name, (rn, ot, itr) in PAPER.items()
    ]
    free = e["signature"]["threshold_free"]
    levels = [k for k in free if k.startswith("ot_at_rn_") and not k.endswith("_se")]
    free_row = [["this bundle", f"{free['tone_auc']:.3f}", *(_number(free, k) for k in levels)]]
    per_class = [
        [html.escape(label), *(_number(c["signature"]["conformal_95"], k) for k in COLUMNS)]
        for label, c in e["per_class"].items()
        if c["signature"] and "conformal_95" in c["signature"]
    ]
    return (
        "<h2>Signatures (Table I)</h2><p>Mean over recordings &plusmn; standard error. Conformal thresholds are "
        "quantiles of the map over source-free windows; fixed cuts act on the map stretched to 0..1.</p>"
        + _table(["threshold", *COLUMNS.values()], rows)
        + "<h3>Without threshold</h3><p>Overwritten tones where the threshold removes the given share of noise.</p>"
        + _table(["", "tone AUC", *(f"OT at RN {k.rsplit('_', 1)[1]} %" for k in levels)], free_row)
        + "<h3>Per class, conformal 0.95</h3>"
        + _table(["label", *COLUMNS.values()], per_class)
    )
