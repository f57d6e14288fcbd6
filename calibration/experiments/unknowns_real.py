"""What a network of the simulated ocean calls unknown on real recordings: each real vessel is a stranger to it.

Nothing is fitted here: scores and limits are those of the simulator. Windows of an empty sea should be ambient, windows
of vessels unknown. Errors go by group of recordings (vessel, source file), as `calibration.recordings` groups them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.dataset import Progress, no_progress
from calibration.metrics import mean_by_recording
from calibration.samples import Classifier, sample_of
from calibration.separation import separation
from calibration.sets import Recipe, windows_for_test
from models.bundle import Bundle
from models.line_evidence import line_weight
from models.rejection import Rejection

__all__ = ["EMPTY", "VESSELS", "on_recordings"]

#: Labels of an empty sea, without hum and without animals, and how those of vessels begin.
EMPTY, VESSELS = ("ambient", "ambient_2k"), "vessel"
LABELS_CSV = "labels.csv"


def on_recordings(
    bundle: Bundle, engine: Classifier, rejection: Rejection, folder: Path, *, progress: Progress = no_progress
) -> dict[str, Any]:
    """Per label of ``folder``: share named ambient, share unknown, lines per window; and AUROC of vessels.

    Returns
    -------
    dict
        ``labels``: name to figures (per cent, standard error None with one group); ``vessels_vs_empty``: ``auroc`` and
        ``auroc_se``, None where the folder lacks either.

    Raises
    ------
    InputError
        If the folder holds no usable recording.
    """
    csv = folder / LABELS_CSV
    recipe = Recipe(folder=str(folder), labels_csv=str(csv) if csv.is_file() else None)
    windows, notes = windows_for_test(recipe, bundle.spec, bundle.labels, progress=progress)
    sample = sample_of(engine, windows)
    score = rejection.score(sample.logits, sample.embedding, sample.evidence)
    unknown = rejection.unknown(sample.logits, sample.embedding, sample.evidence)
    ambient = np.array([rejection.labels[c] == "ambient" for c in sample.named])
    n_lines = line_weight(sample.evidence).sum(axis=1)
    label = np.array([windows.clips[c].label for c in windows.clip])
    groups = np.array(windows.groups)
    out: dict[str, Any] = {}
    for name in sorted(set(label.tolist())):
        own = np.flatnonzero(label == name)
        mean = mean_by_recording([{"u": float(unknown[i])} for i in own], groups[own].tolist())["u"]
        out[name] = {
            "n_windows": len(own),
            "n_groups": mean.n_recordings,
            "named_ambient": 100.0 * float(ambient[own].mean()),
            "unknown": 100.0 * mean.value,
            "unknown_se": 100.0 * mean.se if mean.n_recordings > 1 else None,
            "lines": float(n_lines[own].mean()),
        }
    return {"labels": out, "vessels_vs_empty": _vessels(score, label, groups), "notes": list(notes)}


def _vessels(
    score: npt.NDArray[np.float64], label: npt.NDArray[np.str_], groups: npt.NDArray[np.str_]
) -> dict[str, float] | None:
    vessel = np.array([str(name).startswith(VESSELS) for name in label], bool)
    chosen = vessel | np.isin(label, EMPTY)
    if not vessel.any() or vessel[chosen].all():
        return None
    found = separation(score[chosen], vessel[chosen], groups[chosen])
    return {"auroc": found.auroc, "auroc_se": found.auroc_se}
