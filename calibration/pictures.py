"""Which windows of a test set the report shows: of each class the ordinary one, and the worst of all."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from calibration.dataset import AMBIENT, WindowSet
from calibration.evaluate import Calibrated, Ears, named_index
from calibration.metrics import WindowTruth, mask_metrics
from calibration.report import Example
from calibration.truth import Truth

__all__ = ["choose_examples"]

F32 = npt.NDArray[np.float32]

#: Windows looked at per class, at most.
N_LOOKED_AT = 12


def choose_examples(
    bundle: Calibrated, ears: Ears, windows: WindowSet, class_masks: F32, nominal: str, n_examples: int = 5
) -> list[Example]:
    """Up to ``n_examples`` windows with their maps.

    Of each class the window whose overwritten tones are the median of its class (without truth: the first), then, of
    all looked at, those with most tones overwritten.
    """
    picked: list[int] = []
    for i, label in enumerate(windows.labels):
        if label != AMBIENT:
            own = np.flatnonzero(windows.y == i)
            # spread over the recordings, which lie one after the other
            picked += own[np.linspace(0, own.size - 1, min(N_LOOKED_AT, own.size)).astype(int)].tolist()
    looked_at = windows.take(picked)
    scored: list[tuple[float, int, Example]] = []
    spectra = None if looked_at.spectrum_db is None else looked_at.spectrum_db
    cams, maps = ears.explain_all(looked_at.features, looked_at.y, spectra)
    for i, verdict in enumerate(ears.explain(looked_at.features, spectra)):
        example, overwritten = _example(bundle, looked_at, i, cams[i], maps[i], class_masks, nominal)
        named = bundle.labels[named_index(verdict, bundle.labels)]
        certainty = f" ({verdict.detections[0].probability:.2f})" if verdict.detections else ""
        scored.append(
            (
                overwritten,
                int(looked_at.y[i]),
                dataclasses.replace(example, title=f"{example.title}, named {named}{certainty}"),
            )
        )
    chosen: list[Example] = []
    rest: list[tuple[float, Example]] = []
    for c in sorted({c for _, c, _ in scored}):
        own_scores = sorted(((o, e) for o, k, e in scored if k == c), key=lambda pair: pair[0])
        middle = len(own_scores) // 2
        chosen.append(own_scores[middle][1])
        rest += own_scores[:middle] + own_scores[middle + 1 :]
    rest.sort(key=lambda pair: -pair[0])
    chosen = chosen[:n_examples]
    worst = rest[: n_examples - len(chosen)]
    return chosen + [dataclasses.replace(e, title=f"{e.title}: among the worst") for _, e in worst]


def _example(
    bundle: Calibrated, windows: WindowSet, i: int, cam: F32, mix: F32, class_masks: F32, nominal: str
) -> tuple[Example, float]:
    """The window's pictures and its overwritten tones (0 without truth)."""
    clip, label = windows.clips[windows.clip[i]], windows.labels[windows.y[i]]
    truth = windows.truths[windows.clip[i]]
    known = WindowTruth.of(truth or Truth((label,), ()), windows.spec, clip.fs, int(windows.first_sample[i]), label)
    mask = mix > bundle.thresholds.mix[label][nominal]
    seconds = windows.first_sample[i] / clip.fs
    figures = mask_metrics(mask, known)
    overwritten = figures["overwritten_tones"]
    title = f"{label}, {clip.name} at {seconds:.0f} s"
    if truth is not None and not np.isnan(overwritten):
        title += f", noise removed {100 * figures['removed_noise']:.0f} %, tones overwritten {100 * overwritten:.0f} %"
    example = Example(
        title, windows.features[i, 0], cam, class_masks[windows.y[i]], mix, mask, known.tone, known.guard,
        known.interferer | known.other,
    )  # fmt: skip
    return example, 0.0 if np.isnan(overwritten) else overwritten
