"""The half-precision graphs run on the CPU: how far their rounding moves the answers, before any card is asked.

Windows are simulated, of test seeds. ONNX Runtime computes the float16 convolutions of the same files in float16 or
wider, a card in float16 with sums in float32 or float16: this is the size of the effect, not a card's own figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from calibration.bench.window import SCENARIO
from calibration.dataset import WindowSet, collect, simulated_clips
from calibration.scenarios import SCENARIOS
from models.bundle import Bundle
from models.engines import golden
from models.engines.base import Tensors, checked_inputs
from models.explainer import Explainer, graphs_of
from models.manifest import AMBIENT
from models.verdict import Verdict

__all__ = ["Masks", "golden_differences", "masks"]

BATCH = 8
CAM_QUANTILE = 0.95


class CpuEngine:
    """The files of one precision on ONNX Runtime, whatever the precision: for this comparison only."""

    name, device, max_batch = "onnxruntime", "CPU", BATCH

    def __init__(self, bundle: Bundle, precision: str) -> None:
        self.precision = precision
        self.graphs = bundle.graph_names(precision)
        self._infos = {name: bundle.manifest.graph(name, precision) for name in self.graphs}
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1
        self._sessions = {
            name: ort.InferenceSession(bundle.graph_bytes(name, precision), settings, ["CPUExecutionProvider"])
            for name in self.graphs
        }

    def run(self, graph: str, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        inputs, _ = checked_inputs(self, self._infos[graph], tensors)
        names = [o.name for o in self._infos[graph].outputs]
        return dict(zip(names, self._sessions[graph].run(names, inputs), strict=True))

    def close(self) -> None:
        self._sessions.clear()


@dataclass(frozen=True, slots=True)
class Masks:
    """Verdicts of the half-precision graphs beside those of float32.

    A score map is mostly made of line tracks, which no engine computes; so Score-CAM is compared apart, by the mask of
    its largest twentieth of cells.
    """

    n_windows: int
    n_other_labels: int
    """Windows whose detected classes differ."""
    n_maps: int
    """Detections of both, whose maps are compared."""
    largest: float
    """Largest difference of two maps' cells."""
    n_flips: int
    """Cells over the class's nominal threshold in one precision and not in the other."""
    n_cells: int
    n_in_either: int
    """Cells over it in one precision or both."""
    cam_largest: float
    """Largest difference of Score-CAM's cells; 0 where the mode has none."""
    cam_flips: int
    """Cells over the 95 % quantile of float32's Score-CAM in one precision and not in the other."""
    cam_cells: int

    @property
    def iou(self) -> float:
        """Of all masks together."""
        return 1.0 - self.n_flips / max(self.n_in_either, 1)


def golden_differences(bundle: Bundle) -> dict[str, dict[str, tuple[float, float]]]:
    """Of each float16 graph and output: largest difference from the golden data, and what the bundle allows."""
    engine = CpuEngine(bundle, "f16")
    found = golden.differences(engine, bundle)
    return {
        graph: {name: (gap, golden.tolerances(bundle, graph, "f16")[name]) for name, gap in by.items()}
        for graph, by in found.items()
    }


def masks(bundle: Bundle, n_windows: int) -> dict[str, Masks]:
    """Verdicts of both precisions on simulated windows, by mode of explanation."""
    windows = simulated(bundle, n_windows)
    assert windows.spectrum_db is not None
    engines = {p: CpuEngine(bundle, p) for p in ("f32", "f16")}
    assert set(graphs_of(bundle)) <= set(engines["f16"].graphs)
    out = {}
    for mode in ("live", "full"):
        said = {
            p: Explainer(bundle, e, mode).explain(windows.features, windows.spectrum_db)  # type: ignore[arg-type]
            for p, e in engines.items()
        }
        out[mode] = _compared(said["f32"], said["f16"], {c: by[bundle.thresholds.nominal]
                                                         for c, by in bundle.thresholds.mix.items()})  # fmt: skip
    return out


def simulated(bundle: Bundle, n: int) -> WindowSet:
    """``n`` windows, all classes and ambient in turn."""
    spec, scenario = bundle.spec, SCENARIOS[SCENARIO]
    labels = (*scenario.labels, AMBIENT)
    per_label = -(-n // len(labels))
    seconds = (per_label + 1) * spec.n_time * spec.hop / spec.fs_model + spec.n_fft / spec.fs_model
    clips = simulated_clips(scenario, "test", 1, seconds, fs=spec.fs_model)
    found = collect(clips, spec, labels, every=spec.n_time // spec.n_time_step)
    in_turn = np.argsort(np.concatenate([np.arange(c) for c in found.counts().values()]), kind="stable")
    return found.take(in_turn[:n])


def _compared(a: list[Verdict], b: list[Verdict], thresholds: Mapping[str, float]) -> Masks:
    other = maps = flips = cells = either = 0
    cam_flips = cam_cells = 0
    largest = cam_largest = 0.0
    for u, v in zip(a, b, strict=True):
        other += {d.label for d in u.detections} != {d.label for d in v.detections}
        theirs = {d.label: d for d in v.detections}
        for d in u.detections:
            if d.label not in theirs or d.label not in thresholds:
                continue
            e = theirs[d.label]
            x, y = d.score > thresholds[d.label], e.score > thresholds[d.label]
            maps, cells = maps + 1, cells + x.size
            flips += int((x != y).sum())
            either += int((x | y).sum())
            largest = max(largest, float(np.abs(d.score - e.score).max()))
            if d.cam is not None and e.cam is not None:
                limit = np.quantile(d.cam, CAM_QUANTILE)
                cam_flips += int(((d.cam > limit) != (e.cam > limit)).sum())
                cam_cells += d.cam.size
                cam_largest = max(cam_largest, float(np.abs(d.cam - e.cam).max()))
    return Masks(len(a), other, maps, largest, flips, cells, either, cam_largest, cam_flips, cam_cells)
