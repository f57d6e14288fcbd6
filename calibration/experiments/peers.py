"""All peers on the same windows with the same measures; who cannot run is listed with the reason, never left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.dataset import Progress, no_progress
from calibration.experiments.judge import judge, judge_masks
from calibration.experiments.scene import Method
from calibration.experiments.tables import aligned, cell, figures
from calibration.experiments.trial import Trial

__all__ = ["Entry", "free_table", "mask_table", "reference_rows", "run_rows"]

#: What a method may stumble over without the others being in doubt.
FAILURES = (ImportError, ValueError, ArithmeticError, RuntimeError, np.linalg.LinAlgError)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row to be."""

    key: str
    """Name in the JSON file."""
    make: Callable[[], Method]
    """Builds the method, training included; imports its library."""
    gated: bool = False
    """Whether its maps depend on the class asked for."""


def run_rows(
    entries: Sequence[Entry],
    trial: Trial,
    *,
    levels: Sequence[float],
    cuts: Sequence[float] = (),
    failures: tuple[type[Exception], ...] = FAILURES,
    progress: Progress = no_progress,
) -> dict[str, dict[str, Any]]:
    """Judge all; key to ``name`` and `tables.figures`, or to ``name`` and ``error``.

    Parameters
    ----------
    failures
        What becomes an ``error`` of its row; everything else ends the run.
    """
    rows: dict[str, dict[str, Any]] = {}
    for n, entry in enumerate(entries):
        progress("methods", n, len(entries))
        try:
            method = entry.make()
            judgement = judge(method, trial, gated=entry.gated, levels=levels, cuts=cuts)
        except failures as e:
            rows[entry.key] = {"name": entry.key, "error": _reason(e)}
        else:
            rows[entry.key] = {"name": method.name, "class_gated": entry.gated, **figures(judgement)}
    progress("methods", len(entries), len(entries))
    return rows


def _reason(e: BaseException) -> str:
    if isinstance(e, ModuleNotFoundError):
        return f"needs {e.name}, which is not installed: pip install 'tonald[experiments]'"
    return f"{type(e).__name__}: {' '.join(str(e).split())}"


def reference_rows(trial: Trial) -> dict[str, dict[str, Any]]:
    """The masks of one who knows: exactly the tone cells, and everything."""
    masks = {
        "oracle": ("oracle (the tone cells)", [t.target for t in trial.truths]),
        "everything": ("everything kept", [t.in_use for t in trial.truths]),
    }
    return {key: {"name": name, **figures(judge_masks(name, m, trial))} for key, (name, m) in masks.items()}


def free_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """One line per method: what does not depend on a threshold, and the time for one window."""
    head = ["maps, no threshold", "tone AUC", "OT@RN26", "OT@RN86", "OT@RN95", "OT@RN99", "ms"]
    out: list[list[str]] = []
    for row in rows.values():
        free, ms = row.get("threshold_free"), row.get("ms_per_window")
        if "error" in row:
            out.append([f"{row['name']}: FAILED: {row['error']}"])
        elif free is not None:
            overwritten = (cell(free, f"ot_at_rn_{q}") for q in (26, 86, 95, 99))
            out.append([row["name"], cell(free, "tone_auc", 3), *overwritten, "-" if ms is None else f"{ms:.1f}"])
    return aligned(head, out)


def mask_table(rows: Mapping[str, Mapping[str, Any]], point: str, title: str) -> str:
    """One line per method: the masks at one operating point."""
    columns = {
        "noise removed": ("removed_noise", 1), "tones overwritten": ("overwritten_tones", 1),
        "regions": ("intersecting_regions", 2), "line Pd": ("line_pd", 1), "line F1": ("line_f1", 1),
        "foreign removed": ("foreign_removed", 1), "other ship removed": ("other_removed", 1),
    }  # fmt: skip
    if all(_at(row, point).get("other_removed") is None for row in rows.values()):
        del columns["other ship removed"]  # nobody else sails there
    out: list[list[str]] = []
    for row in rows.values():
        if "error" in row:
            out.append([f"{row['name']}: FAILED: {row['error']}"])
        else:
            out.append([row["name"], *(cell(_at(row, point), key, n) for key, n in columns.values())])
    return aligned([title, *columns], out)


def _at(row: Mapping[str, Any], point: str) -> Mapping[str, Any]:
    """Figures of a row at an operating point; masks given as such have one of their own."""
    at: Mapping[str, Any] = row.get(point) or row.get("mask") or {}
    return at
