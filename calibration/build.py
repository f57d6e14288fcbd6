"""From data to network to bundle, step by step; needs the libraries of the ``train`` extra.

::

    recipe -> sets -> train_network -> RUN_DIR (checkpoint, data.json)
                   -> calibrate_sets: embeddings -> representatives -> class masks -> graphs, golden data
                                      line tracks -> line templates -> slow explanations -> student
                                      -> thresholds -> evaluation, report -> bundle
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from calibration import thresholds
from calibration.dataset import AMBIENT, Progress, WindowSet, collect, no_progress, simulated_clips
from calibration.distil import distil, lessons
from calibration.evaluate import Calibrated, evaluate
from calibration.examples import Examples
from calibration.listening import least_evidence
from calibration.masks import class_masks
from calibration.open_set import fit
from calibration.pictures import choose_examples
from calibration.precision import half_precision, tolerances
from calibration.reference import OnnxFiles, Reference, TorchGraphs, student_golden, to_training_set
from calibration.report import write_report
from calibration.representatives import Clusters, cluster
from calibration.samples import held_clips, joined, sample_of
from calibration.scenarios import SCENARIOS, scenario_named
from calibration.sets import Recipe, Sets, cook, windows_for_test
from calibration.templates import templates_of
from calibration.weighing import fit_weigher
from models.bundle import Bundle, Representatives, Thresholds, write_bundle
from models.engines import open_engine
from models.errors import InputError, UsageError
from models.explainer import Explainer, nearest
from models.export import export_graphs, export_student, fold_batch_norm
from models.features import FeatureSpec
from models.rejection import Rejection
from models.score_map import vessel_map
from models.train import REPORT, TrainOptions, TrainReport, spec_of, train

__all__ = ["calibrate_run", "calibrate_sets", "train_network"]

F32 = npt.NDArray[np.float32]

RECIPE = "data.json"
NOMINAL = "0.95"
#: Steps of training that suffice on the simulated ocean (1600 windows: 12 epochs); few windows are seen more often.
N_STEPS, MIN_EPOCHS, MAX_EPOCHS = 600, 12, 60
#: Simulated windows whose reference outputs go into the bundle.
N_GOLDEN = 2


def train_network(
    recipe: Recipe,
    spec: FeatureSpec,
    out_dir: Path,
    *,
    n_epochs: int | None = None,
    progress: Progress = no_progress,
) -> tuple[Sets, TrainReport]:
    """Make the data of ``recipe``, train on them, leave checkpoint and recipe in ``out_dir``.

    Returns
    -------
    sets, report
        The data (for `calibrate_sets`) and the trainer's report.

    Raises
    ------
    InputError, UsageError
        If the data cannot be used, or ``out_dir`` holds the training of other data.
    """
    if (out_dir / RECIPE).is_file() and Recipe.read(out_dir / RECIPE) != recipe:
        raise UsageError(f"{out_dir}: holds a training on other data; choose another folder or remove it")
    sets = cook(recipe, spec, progress=progress)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        recipe.write(out_dir / RECIPE)
    except OSError as e:
        raise InputError(f"{e.filename}: cannot be written: {e.strerror}") from e
    options = TrainOptions(seed=recipe.seed)
    if n_epochs is None:
        n_epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, math.ceil(N_STEPS * options.batch / len(sets.train))))
    options = dataclasses.replace(options, n_epochs=n_epochs)
    report = train(to_training_set(sets.train), to_training_set(sets.val), spec, out_dir, options)
    return sets, report


def calibrate_run(
    run_dir: Path, out: Path, *, k: int | None, n_test: int, force: bool = False, progress: Progress = no_progress
) -> tuple[Bundle, dict[str, Any]]:
    """Calibrate what `train_network` left in ``run_dir``; of a scenario the report is made on ``n_test`` test seeds."""
    recipe = Recipe.read(run_dir / RECIPE)
    spec = spec_of(run_dir)
    sets = cook(recipe, spec, progress=progress)
    test: WindowSet | None = None
    if recipe.scenario is not None:
        unseen = Recipe(scenario=recipe.scenario, n_recordings=max(2, n_test), seconds=recipe.seconds)
        test, _ = windows_for_test(unseen, spec, sets.labels, progress=progress)
    return calibrate_sets(run_dir, sets, out, k=k, test=test, force=force, progress=progress)


def calibrate_sets(
    run_dir: Path,
    sets: Sets,
    out: Path,
    *,
    k: int | None,
    test: WindowSet | None = None,
    force: bool = False,
    progress: Progress = no_progress,
) -> tuple[Bundle, dict[str, Any]]:
    """Calibrate the network of ``run_dir`` and write the bundle.

    Parameters
    ----------
    k
        Forward passes of Score-CAM; None: the fewest that keep its maps true, see `calibration.weighing`.
    test
        Windows for the report; without them it is made on the calibration windows and says so.

    Returns
    -------
    bundle, results
        The bundle as loaded again, and what its ``report/report.json`` holds.
    """
    recipe = Recipe.read(run_dir / RECIPE)
    spec, labels = sets.train.spec, sets.labels
    training = _training_report(run_dir)
    reference = Reference.load(run_dir, spec)
    clusters, representatives = _representatives(reference, sets.train, progress)
    # the graphs keep class masks in half precision: use the same values everywhere
    masks = class_masks(reference.score_cam, sets.train, clusters, progress=progress)
    masks = masks.astype(np.float16).astype(np.float32)
    templates = templates_of(sets.train, progress=progress)
    judges = np.flatnonzero(sets.calibrate.y != labels.index(AMBIENT))
    weighed = fit_weigher(
        fold_batch_norm(reference.network), sets.train.features, sets.calibrate.features[judges],
        sets.calibrate.y[judges], row_lo=spec.row_lo, fill=spec.fill, k=k, progress=progress,
    )  # fmt: skip
    weigher, k = weighed.weigher, weighed.k
    golden = TorchGraphs(reference, masks, k, weigher).golden(_golden_features(spec))
    onnx = export_graphs(reference.network, torch.from_numpy(masks), spec, k, weigher=weigher)
    rejection = _rejection(OnnxFiles(_of(onnx, "f32")), recipe, sets, spec, progress)
    write = functools.partial(
        write_bundle, labels=labels, spec=spec, k=k, class_masks=masks, representatives=representatives,
        templates=templates, rejection=rejection,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="tonald-") as scratch:
        place = Path(scratch)

        def draft(limits: Thresholds, name: str) -> Bundle:
            """The bundle as far as it is known, for the explainer to be calibrated with."""
            return write(place / name, graphs=onnx, thresholds=limits, golden=golden,
                tolerances=tolerances(onnx, golden), training={},
            )  # fmt: skip

        teacher = Explainer(draft(_open_thresholds(labels), "teacher"), OnnxFiles(_of(onnx, "f32")), "full")
        progress("student", 0, 1)
        student = distil(
            sets.train.features, lessons(teacher, sets.train, progress=progress), len(labels), progress=progress
        )
        onnx |= export_student(student, spec)
        golden |= student_golden(student, golden["explain"])
        limits = _thresholds(draft(_open_thresholds(labels), "open"), onnx, sets.calibrate, representatives, progress)
        calibrated_draft = draft(limits, "calibrated")
        judged = sets.calibrate if test is None else test
        known_lines = Calibrated(labels, spec, limits, sets.line_tables_hz)
        live, full = (Explainer(calibrated_draft, OnnxFiles(_of(onnx, "f32")), mode) for mode in ("live", "full"))
        results: dict[str, Any] = {
            "evaluated_on": (
                f"{len(judged)} calibration windows: thresholds were set on them, so these figures flatter"
                if test is None
                else f"{len(judged)} windows of {len(judged.clips)} recordings from seeds apart"
            ),
            "evaluation": evaluate(known_lines, live, judged, progress=progress),
            "k": k,
            "score_cam": {"k": k, "curve": list(weighed.curve), "chosen": list(weighed.chosen)},
            "thresholds": {
                "mix": limits.mix, "nominal": limits.nominal, "unknown_distance": limits.unknown_distance,
                "min_probability": limits.min_probability, "vessel": limits.vessel, "evidence": limits.evidence,
            },
            "templates": templates.to_dict(),
            "n_windows": {"train": sets.train.counts(), "val": sets.val.counts(), "calibrate": sets.calibrate.counts()},
            "n_representatives": {label: c.n for label, c in clusters.items()},
            "training": training,
            "notes": [
                *sets.notes,
                *(() if rejection else ("some label has no held-out recording: unknown is told by distance alone",)),
            ],
        }  # fmt: skip
        progress("half precision", 0, 1)
        results["f16"] = half_precision(
            TorchGraphs(reference, masks, k, weigher),
            OnnxFiles(_of(onnx, "f16"), "f16"),
            calibrated_draft,
            known_lines,
            judged,
        )
        progress("half precision", 1, 1)
        report = place / "report"
        report.mkdir()
        write_report(
            report,
            results=results,
            examples=choose_examples(known_lines, full, judged, masks, NOMINAL),
            spec=spec,
            history={key: [row[key] for row in training["curve"]] for key in training["curve"][0]},
            elbows={label: (c.n_tried, c.inertia, c.n) for label, c in clusters.items()},
            synthetic=recipe.synthetic,
        )
        if weigher is not None:
            weigher.save(report / "weigher.npz")
        names = representatives.names
        chosen = np.concatenate([np.flatnonzero(sets.train.y == i)[clusters[n].members] for i, n in enumerate(labels)])
        Examples.of(sets.train.take(chosen), names).write(report)
        bundle = write(out, graphs=onnx, thresholds=limits, golden=golden,
            tolerances=tolerances(onnx, golden), report_dir=report, force=force,
            training={
                "synthetic": recipe.synthetic, "line_tables_hz": {n: list(t) for n, t in sets.line_tables_hz.items()},
                "recipe": _for_others(recipe), "fingerprint": training["fingerprint"],
                "best_epoch": training["best_epoch"], "versions": training["versions"],
                "n_windows": results["n_windows"],
            },
        )  # fmt: skip
    open_engine(bundle, "onnxruntime", max_batch=N_GOLDEN)[
        0
    ].close()  # a bundle that misses its own golden data is none
    return bundle, results


def _rejection(
    classifier: OnnxFiles, recipe: Recipe, sets: Sets, spec: FeatureSpec, progress: Progress
) -> Rejection | None:
    """What is like nothing known: rates from the training set, limits from recordings the network never saw.

    None where some label has no such recording; then the distance to the nearest representative decides.
    """
    if recipe.scenario is None:
        held = joined([sample_of(classifier, part) for part in (sets.val, sets.calibrate) if len(part)])
    else:
        clips = held_clips(scenario_named(recipe.scenario), recipe.seconds, spec.fs_model, seed=recipe.seed)
        windows = collect(clips, spec, sets.labels, every=4, what="held windows", progress=progress)
        held = sample_of(classifier, windows)
    if len(np.unique(held.y)) < len(sets.labels):
        return None
    return fit(sample_of(classifier, sets.train), held, sets.labels, spec)


def _of(files: Mapping[tuple[str, str], bytes], precision: str) -> dict[str, bytes]:
    return {name: file for (name, p), file in files.items() if p == precision}


def _open_thresholds(labels: tuple[str, ...]) -> Thresholds:
    """Limits that let everything through, for the time before there are any."""
    classes = [label for label in labels if label != AMBIENT]
    all_open = dict.fromkeys(thresholds.NOMINAL_LEVELS, 0.0)
    return Thresholds(
        dict.fromkeys(classes, all_open), NOMINAL, dict.fromkeys(labels, 1e9), dict.fromkeys(labels, 0.0), all_open, {}
    )  # fmt: skip


def _for_others(recipe: Recipe) -> dict[str, Any]:
    """The recipe without the places of this machine."""
    values = dataclasses.asdict(recipe)
    return values | {k: Path(values[k]).name for k in ("folder", "labels_csv") if values[k] is not None}


def _training_report(run_dir: Path) -> dict[str, Any]:
    """What the trainer left for people."""
    try:
        report: dict[str, Any] = json.loads((run_dir / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"{run_dir / REPORT}: no finished training: {e}") from e
    return report


def _representatives(
    reference: Reference, windows: WindowSet, progress: Progress
) -> tuple[dict[str, Clusters], Representatives]:
    """Clusters of each label, ambient too, as indices into ``windows.of_label(label)``."""
    embeddings = reference.embeddings(windows.features)
    clusters: dict[str, Clusters] = {}
    names, index, vectors = [], [], []
    for i, label in enumerate(windows.labels):
        progress("representatives", i, len(windows.labels))
        own = np.flatnonzero(windows.y == i)
        if not own.size:
            raise InputError(f"no training windows of {label!r}: at least one recording of each class is needed")
        clusters[label] = cluster(embeddings[own])
        for member in own[clusters[label].members]:
            names.append(f"{label[:50]}/{member}")
            index.append(i)
            vectors.append(embeddings[member])
    progress("representatives", len(windows.labels), len(windows.labels))
    return clusters, Representatives(tuple(names), np.array(index, np.int32), np.stack(vectors))


def _thresholds(
    draft: Bundle,
    files: Mapping[tuple[str, str], bytes],
    windows: WindowSet,
    representatives: Representatives,
    progress: Progress,
) -> Thresholds:
    """All thresholds, from windows the network never saw, as the explainer of the daemon maps them."""
    ears = Explainer(draft, OnnxFiles(_of(files, "f32")))
    noise = windows.of_label(AMBIENT)
    noise_db = noise.spectra_of(np.arange(len(noise)))
    row_lo = windows.spec.row_lo
    probs, embeddings = ears.classify(windows.features)
    evidence = least_evidence(draft.templates, windows, probs)
    mix: dict[str, dict[str, float]] = {}
    distances: dict[str, float] = {}
    probabilities: dict[str, float] = {}
    for i, label in enumerate(windows.labels):
        progress("thresholds", i, len(windows.labels))
        if label != AMBIENT:
            cells = ears.explain_all(noise.features, i, noise_db)[1][:, row_lo:].ravel()
            mix[label] = {q: thresholds.conformal_quantile(cells, float(q)) for q in thresholds.NOMINAL_LEVELS}
        own = windows.y == i
        _, distance = nearest(embeddings[own], representatives.embeddings)
        # where the network errs, its distances and probabilities say nothing of the label
        right = probs[own].argmax(axis=1) == i
        chosen = right if right.any() else np.ones(int(own.sum()), bool)
        distances[label] = thresholds.unknown_distance(distance[chosen])
        heard = ears.explain(windows.features[own], windows.spectra_of(np.flatnonzero(own)))
        certain = [d.probability for v in heard for d in v.detections[:1] if d.label == label]
        probabilities[label] = thresholds.least_probability(certain or probs[own][chosen][:, i])
    cells = np.concatenate(
        [
            vessel_map(v.tracks, v.own, windows.spec.n_time, row_lo)[row_lo:].ravel()
            for v in ears.explain(noise.features, noise_db)
            if v.tracks is not None
        ]
    )
    vessel = {q: thresholds.conformal_quantile(cells, float(q)) for q in thresholds.NOMINAL_LEVELS}
    progress("thresholds", len(windows.labels), len(windows.labels))
    return Thresholds(mix, NOMINAL, distances, probabilities, vessel, evidence)


def _golden_features(spec: FeatureSpec) -> F32:
    """Simulated windows ``(N_GOLDEN, n_planes, n_freq, n_time)``; simulated whatever the network learned from."""
    sea = SCENARIOS["standard"]
    clips = simulated_clips(sea, "demo", 1, 12.0, fs=spec.fs_model)[-N_GOLDEN:]  # some vessels, and ambient
    features = collect(clips, spec, (*sea.labels, AMBIENT), every=4).features[:N_GOLDEN]
    return np.round(features, 2).astype(np.float32)  # as good a proof, and smaller
