"""Table I: the paper's rows made again, beside the paper's own figures; then the methods of this project.

The paper cuts a map stretched to 0..1 at 0.65, 0.75 and 0.85; how image CAM and class mask become one map it says in
two ways (averaged; added), so all overlays are given, see `calibration.experiments.bundle_maps.OVERLAYS`. Its figures
come from other recordings and from counting by eye: what can be compared is their order, not their digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from calibration.dataset import Progress, no_progress
from calibration.evaluate import FIXED_CUTS
from calibration.experiments.bundle_maps import OVERLAYS, BundleMap, Cams
from calibration.experiments.judge import LEVELS, point_of
from calibration.experiments.ours import SignatureMap, StudentMap, TemplateMap, vessel_of
from calibration.experiments.paper_rows import CentroidMap, ReverseMap, centroid_masks
from calibration.experiments.peer_rows import tracks_entry
from calibration.experiments.peers import Entry, free_table, mask_table, reference_rows, run_rows
from calibration.experiments.tables import aligned, cell
from calibration.experiments.trial import Trial
from calibration.experiments.wide import wide_rows
from calibration.scenarios import Scenario
from models.bundle import Bundle
from models.engines.base import Engine
from models.explainer import Explainer
from models.features import FeatureSpec

__all__ = ["PUBLISHED", "run", "text", "with_wide"]

#: Table I as printed: removed noise %, overwritten tones %, intersecting tonal regions.
PUBLISHED: Mapping[str, tuple[float, float, str]] = {
    "cut_65": (26.0, 4.0, "15+"),
    "cut_75": (86.0, 8.0, "2"),
    "cut_85": (95.0, 59.0, "0"),
    "ae_centroids": (79.0, 7.0, "5"),
    "reverse": (14.0, 3.0, "15+"),
}
#: The paper's best cut.
BEST_CUT = 0.75
#: Regions from which the paper counts no further.
MANY = 15


def run(
    trial: Trial,
    scenario: Scenario,
    bundle: Bundle,
    engine: Engine,
    live: Explainer,
    full: Explainer,
    *,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """All rows of the table, ready for JSON.

    Parameters
    ----------
    scenario
        Where what is trained here, without truth, takes its windows from.
    live, full
        The bundle's explainer as on board, and with the slow explanation.

    Returns
    -------
    dict
        ``signature`` and ``vessel`` (figures at each operating point), ``ours`` (their parts, judged alone),
        ``paper`` (its rows made again, each with ``published``), ``overlays`` (the maps behind those rows, judged like
        ours) and ``reference`` (the masks of one who knows).
    """
    cams = Cams(bundle, full)
    overlays = [Entry(name, _overlay(name, cams), gated=True) for name in OVERLAYS]
    paper = run_rows(overlays, trial, levels=LEVELS, cuts=FIXED_CUTS, progress=progress)
    modes = [
        Entry("signature", lambda: SignatureMap("signature, live", live), gated=True),
        Entry("vessel", lambda: vessel_of("vessel", bundle)),
    ]
    parts = [
        Entry("signature_full", lambda: SignatureMap("signature, full explanation", full), gated=True),
        Entry("student", lambda: StudentMap("student alone", engine), gated=True),
        Entry("templates", lambda: TemplateMap("tracks and templates alone", bundle.templates), gated=True),
        tracks_entry("viterbi", scenario, bundle.spec, progress=progress),
    ]
    return {
        **run_rows(modes, trial, levels=LEVELS, failures=(), progress=progress),
        "ours": run_rows(parts, trial, levels=LEVELS, progress=progress),
        "paper": _paper_rows(paper) | _last_rows(trial, scenario, bundle, cams, progress),
        "overlays": paper,
        "reference": reference_rows(trial),
    }


def with_wide(
    result: Mapping[str, Any], seed: int, n_windows: int, spec: FeatureSpec, *, progress: Progress = no_progress
) -> dict[str, Any]:
    """The same with ``vessel`` measured where classes vary widely, the case it is made for.

    What `run` found for it on its own windows becomes ``vessel_here``; ``wide`` holds all rows of that scenario.
    """
    wide = wide_rows(seed, n_windows, spec, progress=progress)
    return {**result, "vessel_here": result["vessel"], "vessel": wide["vessel"], "wide": wide}


def _overlay(name: str, cams: Cams) -> Callable[[], BundleMap]:
    return lambda: BundleMap(f"overlay {name}", cams, name)


def _paper_rows(methods: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """One row per overlay and cut."""
    rows: dict[str, dict[str, Any]] = {}
    for key, figures in methods.items():
        for cut in FIXED_CUTS:
            point = point_of("cut", cut)
            name = f"{figures['name']}, cut {cut:.2f}"
            rows[f"{key}_{point}"] = {"name": name, **published(point), **_point(figures, point)}
    return rows


def _last_rows(
    trial: Trial, scenario: Scenario, bundle: Bundle, cams: Cams, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Centroids and reverse at the paper's best cut; who cannot be made says so in its place."""
    entries = [
        Entry(
            "ae_centroids",
            lambda: CentroidMap(cams, centroid_masks(scenario, bundle.spec, progress=progress)),
            gated=True,
        ),
        Entry("reverse", lambda: ReverseMap(cams, bundle.labels), gated=True),
    ]
    rows = run_rows(entries, trial, levels=LEVELS, cuts=(BEST_CUT,), progress=progress)
    point = point_of("cut", BEST_CUT)
    return {
        key: {"name": f"{figures['name']}, cut {BEST_CUT:.2f}", **published(key), **_point(figures, point)}
        for key, figures in rows.items()
    }


def _point(figures: Mapping[str, Any], point: str) -> dict[str, Any]:
    return {"error": figures["error"]} if "error" in figures else dict(figures[point])


def published(key: str) -> dict[str, Any]:
    """The paper's own figures of one row."""
    noise, tones, regions = PUBLISHED[key]
    return {"published": {"removed_noise": noise, "overwritten_tones": tones, "intersecting_regions": regions}}


def text(result: Mapping[str, Any]) -> str:
    """The table for people."""
    head = ["the paper's rows", "noise removed", "paper", "tones overwritten", "paper", "regions", "paper", "line F1"]
    rows: list[Sequence[str]] = []
    for row in result["paper"].values():
        said = row["published"]
        if "error" in row:
            rows.append([
                row["name"], "-", f"{said['removed_noise']:.0f}", "-", f"{said['overwritten_tones']:.0f}", "-",
                said["intersecting_regions"], "-",
            ])  # fmt: skip
            rows.append([f"  {row['error']}"])
            continue
        rows.append([
            row["name"], cell(row, "removed_noise"), f"{said['removed_noise']:.0f}", cell(row, "overwritten_tones"),
            f"{said['overwritten_tones']:.0f}", _regions(row), said["intersecting_regions"], cell(row, "line_f1"),
        ])  # fmt: skip
    here = {"signature": result["signature"], "vessel": result.get("vessel_here", result["vessel"])}
    own = {**result["reference"], **here, **result["ours"], **result["overlays"]}
    parts = ["", aligned(head, rows), free_table(own), *_mask_tables(own)]
    if (wide := result.get("wide")) is not None:
        there = {**wide["reference"], "vessel": wide["vessel"], "signature": wide["signature"]}
        parts += [
            "Classes that vary widely (scenario wide; templates learned in this run; "
            f"{wide['named_rightly']:.0f} % of the windows named rightly):",
            free_table(there), *_mask_tables(there),
        ]  # fmt: skip
    return "\n\n".join(parts)


def _mask_tables(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    titles = {q: f"masks, nominal {100 * q:.0f} %, no truth" for q in LEVELS}
    return [mask_table(rows, point_of("conformal", q), title) for q, title in titles.items()]


def _regions(row: Mapping[str, Any]) -> str:
    value = row["intersecting_regions"]
    return f"{MANY}+" if value is not None and value >= MANY else cell(row, "intersecting_regions", 2)
