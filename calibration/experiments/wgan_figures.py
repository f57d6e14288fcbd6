"""Figures 5 and 6 of the paper: how the training goes, and generated windows beside real ones."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from calibration.dataset import Progress, no_progress
from calibration.experiments.wgan import TRAIN_FIRST, load_windows
from calibration.gan_quality import line_histogram, tonal_distance
from calibration.scenarios import scenario_named
from models.dataset import Dataset
from models.errors import InputError
from models.features import FeatureSpec
from models.wgan_train import GanOptions, Recipe, Row, Trained, train_generator

__all__ = ["draw"]

F32 = npt.NDArray[np.float32]

#: As the paper: about a hundred windows of one class; two of each recording.
N_RECORDINGS = 50
SEED = 0
#: Critic steps of the modern recipe, as in the trial; the paper's recipes get its 150 epochs.
MODERN_STEPS = 250
RECIPES: tuple[Recipe, ...] = ("text", "printed", "modern")
TITLES = {
    "text": "text: BCE, batch 20",
    "printed": "Algorithm 1: clip 0.01, batch 64, 5 critic steps",
    "modern": "modern: R1 + R2, augmented",
}


def draw(folder: Path, scenario: str = "wide", *, progress: Progress = no_progress) -> dict[str, str]:
    """Train all recipes on one class and draw; the same pictures every time.

    Returns
    -------
    dict
        What each picture shows in words, by file name.

    Raises
    ------
    InputError
        If a picture cannot be written.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    chosen = scenario_named(scenario)
    label = chosen.labels[0]
    every = load_windows(chosen, "train", TRAIN_FIRST, N_RECORDINGS, progress)
    own = np.flatnonzero(every.y == 0).tolist()
    real = Dataset(every.features[own], every.y[own], [every.groups[i] for i in own], (label,))
    spec = FeatureSpec()
    trained: dict[str, Trained] = {}
    for i, recipe in enumerate(RECIPES):
        progress("recipes", i, len(RECIPES))
        options = GanOptions.preset(recipe, seed=SEED, n_steps=MODERN_STEPS if recipe == "modern" else None)
        trained[recipe] = train_generator(real, options, row_lo=spec.row_lo, fill=spec.fill)
    progress("recipes", len(RECIPES), len(RECIPES))
    try:
        folder.mkdir(exist_ok=True)
        _curves(trained).savefig(folder / "wgan_training.png", dpi=80)
        made = {r: t.generate(np.zeros(len(own), np.int64), SEED + 1).to_judge() for r, t in trained.items()}
        _samples(real.features, made, label, spec).savefig(folder / "wgan_samples.png", dpi=60)
    except OSError as e:
        raise InputError(f"{folder}: pictures cannot be written: {e.strerror or e}") from e
    words = "; ".join(_said(r, t) for r, t in trained.items())
    n = len(own)
    lines = f"lines per window: real {line_histogram(real.features).sum() / n:.1f}; " + "; ".join(
        f"{r} {line_histogram(x).sum() / n:.1f}, {tonal_distance(real.features, x):.1f} rows away"
        for r, x in made.items()
    )
    return {"wgan_training.png": f"{label}, {n} windows (simulated): {words}", "wgan_samples.png": lines}


def _said(recipe: str, t: Trained) -> str:
    last = 100.0 * float(np.mean([r["accuracy"] for r in t.curve[-10:]]))
    stop = (
        "" if recipe != "text" else f", sign to stop {'at epoch ' + str(t.stop_epoch) if t.stop_epoch else 'not seen'}"
    )
    return f"{recipe} {len(t.curve)} epochs, accuracy of the last ten {last:.0f} %{stop}"


def _curves(trained: dict[str, Trained]) -> Figure:
    """Figure 5: losses above, accuracy below, over the epochs."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    for i, (recipe, t) in enumerate(trained.items()):
        above, below = figure.add_subplot(2, 3, i + 1), figure.add_subplot(2, 3, i + 4)
        above.set_title(TITLES[recipe], fontsize=10)
        for key in ("critic", "generator"):
            above.plot(*_series(t.curve, key), label=key, lw=1)
        if recipe == "text":
            for key, name in (("accuracy_real", "on real"), ("accuracy_made", "on generated")):
                below.plot(*_series(t.curve, key), label=name, lw=0.8, alpha=0.6)
        below.plot(*_series(t.curve, "accuracy"), color="k", lw=1, label="both" if recipe == "text" else "pairs ranked")
        below.axhline(50, color="grey", ls=":", lw=1)
        below.set(ylim=(0, 103), xlabel="epoch")
        if i == 0:
            above.set_ylabel("loss")
            below.set_ylabel("accuracy of the critic, %")
        above.legend(fontsize=8)
        below.legend(fontsize=8)
    figure.suptitle("Training of the generators (as Figure 5 of the paper), simulated windows", fontsize=11)
    return figure


def _series(curve: tuple[Row, ...], key: str) -> tuple[list[int], list[float]]:
    scale = 100.0 if key.startswith("accuracy") else 1.0
    pairs = [(i + 1, scale * r[key]) for i, r in enumerate(curve) if key in r]
    return [i for i, _ in pairs], [v for _, v in pairs]


def _samples(real: F32, made: dict[str, F32], label: str, spec: FeatureSpec, n: int = 4) -> Figure:
    """Figure 6: windows side by side, and the mean over time of the first."""
    rows = {f"real, {label}": real[:: max(1, len(real) // n)], **made}
    figure = Figure(figsize=(11, 2.6 * len(rows)), layout="constrained")
    extent = (0.0, spec.n_time * spec.column_s, 0.0, spec.f_hi_hz)
    for i, (name, windows) in enumerate(rows.items()):
        for j in range(n):
            axes = figure.add_subplot(len(rows), n + 1, i * (n + 1) + j + 1)
            axes.imshow(windows[j, 0], origin="lower", aspect="auto", vmin=0, vmax=1, extent=extent,
                        cmap=mpl.colormaps["gray_r"], interpolation="nearest")  # fmt: skip
            axes.tick_params(labelsize=7)
            if j == 0:
                axes.set_ylabel(f"{name}\nHz", fontsize=9)
            if i == len(rows) - 1:
                axes.set_xlabel("s", fontsize=8)
        axes = figure.add_subplot(len(rows), n + 1, (i + 1) * (n + 1))
        hz = np.arange(spec.n_freq) * spec.bin_hz
        axes.plot(windows[0, 0].mean(1), hz, lw=0.7, color="k")
        axes.set(xlim=(0, 1), ylim=(0, spec.f_hi_hz))
        axes.tick_params(labelsize=7)
        if i == 0:
            axes.set_title("first window, mean over time", fontsize=8)
    figure.suptitle("Real and generated windows (as Figure 6 of the paper); all simulated", fontsize=11)
    return figure
