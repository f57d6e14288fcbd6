"""What the measurements of ``tonald bench`` share: the file of all figures, and a target said to be met or missed."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.errors import InputError, UsageError

__all__ = ["Target", "add_json", "check_json", "positive", "tell_targets", "write_json"]


@dataclass(frozen=True, slots=True)
class Target:
    """A figure measured, and what it is to be at most."""

    what: str
    value: float
    at_most: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the figure keeps to it."""
        return self.value <= self.at_most

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "met": self.met}


def tell_targets(targets: list[Target]) -> None:
    """Print one line for each: the figure, its target, MET or MISSED."""
    width = max(len(t.what) for t in targets)
    print()
    for t in targets:
        unit = f" {t.unit}" if t.unit else ""
        print(f"{t.what:<{width}}  {t.value:8.2f}{unit}, target at most {t.at_most:g}{unit}: "
              f"{'MET' if t.met else 'MISSED'}")  # fmt: skip


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json FILE``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def check_json(path: Path | None) -> None:
    """Before measuring for minutes, see that the figures will have a place.

    Raises
    ------
    InputError
        If the folder does not exist.
    """
    if path is not None and not path.parent.is_dir():
        raise InputError(f"{path}: no such folder {path.parent}")


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write all figures, if asked for.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    if path is None:
        return
    try:
        path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror}") from e


def positive(word: str, value: float, least: float = 0.0) -> None:
    """Refuse a number that is not above 0, or below ``least``.

    Raises
    ------
    UsageError
        Names the word and the number.
    """
    if not (math.isfinite(value) and value > 0.0 and value >= least):
        raise UsageError(f"{word} {value:g}: must be {f'at least {least:g}' if least else 'more than 0'}")
