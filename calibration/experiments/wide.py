"""Classes that vary widely (shaft +-15 %, machinery +-6 %): templates learned here, then judged.

No network takes part: the class asked for is the one that tracks and templates find likeliest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from calibration.dataset import AMBIENT, Progress, WindowSet, collect, no_progress, simulated_clips
from calibration.experiments.judge import LEVELS
from calibration.experiments.ours import TemplateMap, VesselMap, template_namer
from calibration.experiments.peers import Entry, reference_rows, run_rows
from calibration.experiments.trial import make_trial
from calibration.listening import least_evidence
from calibration.scenarios import scenario_named
from calibration.templates import templates_of
from models.features import FeatureSpec
from models.hearing import LeastEvidence
from models.line_template import Templates

__all__ = ["learned", "wide_rows"]

#: Recordings per label and their length, s: as many as the shipped bundle's network learned from.
N_TRAIN, N_CALIBRATE, SECONDS = 40, 20, 40.0
#: Slots between windows kept.
EVERY = 4


def learned(name: str, spec: FeatureSpec, *, progress: Progress = no_progress) -> tuple[Templates, LeastEvidence]:
    """Templates and their limits from recordings of a scenario, labels alone given."""
    scenario = scenario_named(name)
    labels = (*scenario.labels, AMBIENT)

    def windows(space: str, n: int) -> WindowSet:
        clips = simulated_clips(scenario, "train" if space == "train" else "calibrate", n, SECONDS, fs=spec.fs_model)
        return collect(clips, spec, labels, every=EVERY, what=f"{name}: {space} windows", progress=progress)

    templates = templates_of(windows("train", N_TRAIN), progress=progress)
    held = windows("calibrate", N_CALIBRATE)
    even = np.full((len(held), len(labels)), 1.0 / len(labels), np.float32)
    return templates, LeastEvidence.of(least_evidence(templates, held, even))


def wide_rows(seed: int, n_windows: int, spec: FeatureSpec, *, progress: Progress = no_progress) -> dict[str, Any]:
    """Rows ``vessel``, ``signature`` and the references on fresh windows of the scenario ``wide``, ready for JSON."""
    scenario = scenario_named("wide")
    labels = (*scenario.labels, AMBIENT)
    templates, least = learned("wide", spec, progress=progress)
    namer = template_namer(templates, least)
    trial = make_trial(scenario, seed, n_windows, spec, labels, namer, progress=progress)
    entries = [
        Entry("vessel", lambda: VesselMap("vessel mode, wide classes", templates, labels, least)),
        Entry("signature", lambda: TemplateMap("signature, wide classes, templates alone", templates), gated=True),
    ]
    rows = run_rows(entries, trial, levels=LEVELS, failures=(), progress=progress)
    return {**rows, "named_rightly": 100.0 * trial.named_rightly, "reference": reference_rows(trial)}
