"""Figures of experiments as aligned text and as JSON: per cent with standard errors over recordings."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.experiments.judge import Judgement
from calibration.experiments.trial import Trial
from calibration.rows import finite, table_row
from models.errors import InputError

__all__ = ["about", "aligned", "cell", "figures", "headline", "write_json"]


def figures(judgement: Judgement) -> dict[str, Any]:
    """All figures of a method: operating point to `calibration.rows.table_row`, and ``ms_per_window``."""
    out: dict[str, Any] = {point: table_row(judgement.means(point)) for point in judgement.points}
    return out | {"ms_per_window": finite(judgement.ms_per_window)}


def about(trial: Trial, scenario: str, seed: int | None) -> dict[str, Any]:
    """What the figures were made on, for JSON."""
    return {
        "synthetic": True,
        "scenario": scenario,
        "fresh_seed": seed,
        "n_windows": len(trial.test),
        "n_recordings": len(set(trial.groups)),
        "n_source_free_windows": len(trial.calm),
        "first_recording": trial.groups[0],
        "first_source_free_recording": trial.calm.windows.groups[0],
        "named_rightly": 100.0 * trial.named_rightly,
        "units": "per cent; intersecting_regions counts lines, tone_auc lies in 0..1; _se: standard error over "
        "recordings",
    }


def headline(facts: Mapping[str, Any]) -> str:
    """What `about` says, for people."""
    return (
        f"SIMULATED ocean, scenario {facts['scenario']}, fresh seed {facts['fresh_seed']}: {facts['n_windows']} "
        f"windows of {facts['n_recordings']} recordings (from {facts['first_recording']}),\n"
        f"thresholds from {facts['n_source_free_windows']} source-free windows of as many recordings (from "
        f"{facts['first_source_free_recording']}).\n"
        f"The network names {facts['named_rightly']:.1f} % of the windows rightly. +-: standard error over recordings."
    )


def cell(values: Mapping[str, Any] | None, key: str, digits: int = 1) -> str:
    """``value +- error`` of one measure; ``-`` where it cannot be told."""
    value = None if values is None else values.get(key)
    if values is None or value is None:
        return "-"
    se = values.get(f"{key}_se")
    return f"{value:.{digits}f}" if se is None else f"{value:.{digits}f} +- {se:.{digits}f}"


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines of text, the first column to the left, the others to the right; a row of one cell spans all."""
    full = [list(head), *(list(r) for r in rows if len(r) > 1)]
    width = [max(len(r[k]) for r in full) for k in range(len(head))]
    lines = []
    for row in (head, *rows):
        if len(row) == 1:
            lines.append(row[0])
            continue
        first = row[0].ljust(width[0])
        lines.append("  ".join([first, *(c.rjust(w) for c, w in zip(row[1:], width[1:], strict=True))]).rstrip())
    rule = "-" * max(len(line) for line in lines)
    return "\n".join([lines[0], rule, *lines[1:]])


def write_json(path: Path, value: object) -> None:
    """Write whole or not at all.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as f:
                f.write(text)
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)  # mkstemp's own mode is for secrets
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e
