"""What a bundle of the simulated ocean says of real recordings, by folder, at its live rule.

Nothing is fitted here, and nothing in a bundle ever saw a real recording. Its windows are longer than those of
`calibration.experiments.vessels`. A window is *heard* if it is named or unknown: something is there that is no empty
sea. Each vessel here is a stranger, so a name is always wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from calibration.dataset import Progress, no_progress
from calibration.evaluate import Ears
from calibration.metrics import mean_by_recording
from calibration.sets import Recipe, windows_for_test
from models.bundle import Bundle

__all__ = ["by_folder"]

BATCH = 16


def by_folder(bundle: Bundle, ears: Ears, folder: Path, progress: Progress = no_progress) -> dict[str, Any]:
    """Per label of ``folder``: windows named, unknown, heard; per cent.

    Returns
    -------
    dict
        ``bundle``, ``seconds`` of a window, ``folders``: label to ``n_windows``, ``n_groups``, ``named``, ``unknown``,
        ``heard`` (of windows), and ``heard_mean`` with ``heard_se`` over groups (None with one); ``left_out``: files.

    Raises
    ------
    InputError
        If the folder holds no usable recording.
    """
    windows, notes = windows_for_test(Recipe(folder=str(folder)), bundle.spec, bundle.labels, progress=progress)
    named, unknown = np.zeros(len(windows), bool), np.zeros(len(windows), bool)
    for first in range(0, len(windows), BATCH):
        progress("windows judged", first, len(windows))
        index = np.arange(first, min(first + BATCH, len(windows)))
        for i, verdict in zip(
            index.tolist(), ears.explain(windows.features[index], windows.spectra_of(index)), strict=True
        ):
            named[i], unknown[i] = bool(verdict.detections), verdict.unknown
    progress("windows judged", len(windows), len(windows))
    label = np.array([windows.clips[c].label for c in windows.clip])
    heard = named | unknown
    out = {}
    for name in sorted(set(label.tolist())):
        own = np.flatnonzero(label == name)
        mean = mean_by_recording([{"h": float(heard[i])} for i in own], [windows.groups[i] for i in own])["h"]
        out[name] = {
            "n_windows": len(own),
            "n_groups": mean.n_recordings,
            "named": 100.0 * float(named[own].mean()),
            "unknown": 100.0 * float((unknown & ~named)[own].mean()),
            "heard": 100.0 * float(heard[own].mean()),
            "heard_mean": 100.0 * mean.value,
            "heard_se": 100.0 * mean.se if mean.n_recordings > 1 else None,
        }
    seconds = bundle.spec.n_samples(bundle.spec.fs_model) / bundle.spec.fs_model
    return {"bundle": bundle.id, "seconds": seconds, "folders": out, "left_out": len(notes)}
