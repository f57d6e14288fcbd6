"""Draw docs/images/method.png: one simulated window on its way from LOFARgram to signature.

``python docs/method_pictures.py`` after the shipped bundle was rebuilt.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from calibration.ocean import simulate  # noqa: E402
from calibration.scenarios import scenario_named  # noqa: E402
from calibration.truth import truth_masks  # noqa: E402
from models.bundle import Bundle  # noqa: E402
from models.engines import open_engine  # noqa: E402
from models.explainer import Explainer, graphs_of  # noqa: E402
from models.features import windows_of  # noqa: E402
from models.line_template import TemplateFitter  # noqa: E402

LABEL, INDEX = "vessel_3", 3


def main() -> None:
    """Draw the picture."""
    bundle = Bundle.load(Bundle.shipped())
    spec, scenario = bundle.spec, scenario_named("standard")
    sound = simulate(scenario, "demo", INDEX, LABEL, 9.0, spec.fs_model)
    window = next(windows_of(spec, spec.fs_model, sound.x))
    spectrum = window.spectrum_db[0]
    engine, _ = open_engine(bundle, "onnxruntime", max_batch=8, n_threads=1, graphs=graphs_of(bundle))
    full = Explainer(bundle, engine, "full").explain(window.features, spectrum[None])[0]
    live = Explainer(bundle, engine).explain(window.features, spectrum[None])[0]
    engine.close()
    assert full.tracks is not None
    tracks, detection = full.tracks, live.detections[0]
    fit = TemplateFitter(bundle.templates, spec).fit(LABEL, tracks)
    truth = truth_masks(sound.truth, spec, spec.fs_model, 0, LABEL)
    mask = detection.score > bundle.thresholds.mix_of(LABEL)
    t = spec.column_centres(spec.fs_model) / spec.fs_model
    extent = (t[0], t[-1], 0.0, spec.f_hi_hz)
    figure, axes = plt.subplots(2, 3, figsize=(13, 8), layout="constrained", sharex=True, sharey=True)

    def show(ax: plt.Axes, image: np.ndarray, title: str, **words: object) -> None:
        ax.imshow(image, origin="lower", aspect="auto", extent=extent, interpolation="nearest", **words)
        ax.set_title(title, fontsize=10)

    over = spectrum - tracks.background_db[:, None]
    show(axes[0, 0], over, "1  LOFARgram, dB over background", vmin=-5, vmax=15, cmap="viridis")
    show(axes[0, 1], over, "2  line tracks, of whatever origin", vmin=-5, vmax=15, cmap="Greys")
    for rows, evidence in zip(tracks.rows, tracks.evidence, strict=True):
        if evidence >= 5:
            axes[0, 1].plot(t, rows * spec.bin_hz, color="tab:red", lw=1)
    show(axes[0, 2], over, f"3  template of {LABEL} at its common shifts", vmin=-5, vmax=15, cmap="Greys")
    for group, shift, colour in zip(
        bundle.templates.groups[LABEL], fit.shifts, ("tab:blue", "tab:orange", "tab:green", "tab:purple"), strict=False
    ):
        for f in group.freq_hz:
            axes[0, 2].axhline(f * np.exp(shift), color=colour, lw=1)
    for rows, own in zip(tracks.rows, fit.own, strict=True):
        if own > 0.5:
            axes[0, 2].plot(t, rows * spec.bin_hz, color="black", lw=2.5, alpha=0.5)
    show(axes[1, 0], full.detections[0].cam, "4  Score-CAM: cells the network uses", cmap="magma")
    show(
        axes[1, 1],
        np.log10(np.maximum(detection.score, 1e-5)),
        "5  score map (log), tracks and explanation fused",
        cmap="magma",
    )
    kept = np.where(mask, window.features[0, 0], np.nan)
    show(axes[1, 2], kept, "6  signature (true tonals outlined)", cmap="viridis", vmin=0, vmax=1)
    axes[1, 2].contour(t, spec.frequencies_hz, truth.tone, levels=[0.5], colors="tab:red", linewidths=0.6)
    axes[1, 2].contour(t, spec.frequencies_hz, truth.interferer, levels=[0.5], colors="tab:gray", linewidths=0.6)
    for ax in axes[:, 0]:
        ax.set_ylabel("frequency, Hz")
    for ax in axes[1]:
        ax.set_xlabel("time in window, s")
    figure.suptitle(f"SIMULATED {LABEL}: from LOFARgram to signature (red: its true tonals, grey: foreign ones)")
    figure.savefig(HERE / "images" / "method.png", dpi=80)


if __name__ == "__main__":
    main()
