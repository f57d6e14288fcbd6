"""``tonald experiments networks``: the paper's network, representatives by number, the auto-encoder's epochs."""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import Any

from daemon.commands.progress import shown
from daemon.commands.trial_words import add_trial_words, check, opened
from models.errors import InputError

__all__ = ["add_arguments", "run"]

SCENARIOS = ("standard", "low_snr")
EPOCHS = (40, 200)
#: Of each label, for the auto-encoder.
N_RECORDINGS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    add_trial_words(parser, SCENARIOS)
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="draw Figures 7 and 10 of the paper there")


def run(args: argparse.Namespace) -> int:
    """Train, measure and print.

    Raises
    ------
    TonaldError
        If the words do not fit together or the bundle cannot be used.
    """
    check(args)
    from calibration.experiments import networks
    from calibration.experiments.bundle_maps import Cams
    from calibration.experiments.paper_rows import CentroidMap, centroid_masks
    from calibration.experiments.peers import Entry, run_rows
    from calibration.experiments.tables import about, cell, headline, write_json
    from calibration.scenarios import scenario_named

    start = time.monotonic()
    scenario = scenario_named(args.scenario)
    with shown() as progress, opened(args, progress) as given:
        bundle, trial = given.bundle, given.trial
        result = networks.run(trial, scenario, bundle.spec, progress=progress)
        cams = Cams(bundle, given.full)
        masks = {
            n: centroid_masks(scenario, bundle.spec, n_epochs=n, n_recordings=N_RECORDINGS, progress=progress)
            for n in EPOCHS
        }
        made = {n: functools.partial(CentroidMap, cams, m) for n, m in masks.items()}
        entries = [Entry(str(n), make, gated=True) for n, make in made.items()]
        result["autoencoder"] = run_rows(entries, trial, levels=(0.95,), cuts=(0.75,), progress=progress)
    facts = about(trial, args.scenario, args.fresh_seed) | {"bundle": bundle.id, "asked": args.asked}
    if args.json is not None:
        write_json(args.json, {**facts, **result})
    if args.figures is not None:
        _draw(args.figures, result["elbows"], masks, trial.labels)
    print(headline(facts))
    print("\nnetwork               seed  named rightly, %  OT@RN86      OT@RN95      OT@RN99")
    for row in result["networks"].values():
        for r in row["seeds"]:
            free = r["threshold_free"]
            cells = "  ".join(cell(free, f"ot_at_rn_{q}") for q in (86, 95, 99))
            print(f"{row['name']:20s}  {r['seed']:4d}  {r['accuracy']:16.1f}  {cells}")
    print("\nrepresentatives of a class  OT@RN86      OT@RN95      tone AUC")
    for name, r in result["representatives"].items():
        print(f"{name:26s}  {cell(r, 'ot_at_rn_86')}  {cell(r, 'ot_at_rn_95')}  {cell(r, 'tone_auc', 3)}")
    print("\nauto-encoder, epochs  noise removed, %  tones overwritten, % (cut 0.75)   OT@RN86")
    for n, r in result["autoencoder"].items():
        cut, free = r["cut_75"], r["threshold_free"]
        print(f"{n:20s}  {cell(cut, 'removed_noise'):16s}  {cell(cut, 'overwritten_tones'):32s}  "
              f"{cell(free, 'ot_at_rn_86')}")  # fmt: skip
    print(f"\n{time.monotonic() - start:.0f} s")
    return 0


def _draw(folder: Path, elbows: dict[str, Any], masks: dict[int, Any], labels: tuple[str, ...]) -> None:
    from matplotlib.figure import Figure

    try:
        folder.mkdir(exist_ok=True)
        figure = Figure(figsize=(9, 4), layout="constrained")
        axes = figure.subplots()
        for label, e in elbows.items():
            line = axes.plot(e["n_tried"], e["inertia"], label=f"{label}: {e['n']}")[0]
            axes.axvline(e["n"], color=line.get_color(), ls=":", lw=1)
        axes.set(
            xlabel="clusters", ylabel="inertia", title="Elbows of the classes (as Figure 7 of the paper), simulated"
        )
        axes.legend()
        figure.savefig(folder / "elbow.png", dpi=80)
        figure = Figure(figsize=(10, 5), layout="constrained")
        classes = [i for i in range(len(labels)) if any(m[i].any() for m in masks.values())]
        grid = figure.subplots(len(masks), len(classes), squeeze=False)
        for row, (n, m) in zip(grid, masks.items(), strict=True):
            for axes, c in zip(row, classes, strict=True):
                axes.imshow(m[c], origin="lower", aspect="auto", cmap="gray_r", vmin=0, vmax=1)
                axes.set_title(f"{labels[c]}, {n} epochs", fontsize=9)
        figure.suptitle("Class masks of decoded centroids (as Figure 10 of the paper), simulated", fontsize=11)
        figure.savefig(folder / "centroids.png", dpi=80)
    except OSError as e:
        raise InputError(f"{folder}: pictures cannot be written: {e.strerror or e}") from e
