"""One row of the table: what was tried, how it went, with which figures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.trt.wheels import REPO

__all__ = ["GOOD", "NOT_RUN", "WRONG", "Row", "python"]

GOOD, WRONG, NOT_RUN = "good", "WRONG", "not run"


@dataclass(slots=True)
class Row:
    """A part of the proof; it is good until something is wrong."""

    part: str
    what: str
    state: str = GOOD
    lines: list[str] = field(default_factory=list)
    """Figures and reasons, for people."""
    figures: dict[str, Any] = field(default_factory=dict)

    def note(self, line: str) -> None:
        """Add a figure."""
        self.lines.append(line)

    def demand(self, ok: bool, line: str) -> None:
        """Add a figure that decides."""
        self.lines.append(line if ok else f"WRONG: {line}")
        if not ok:
            self.state = WRONG

    def skip(self, reason: str) -> None:
        """It cannot run here."""
        self.lines.append(f"not run: {reason}")
        if self.state != WRONG:
            self.state = NOT_RUN


def python(
    *words: str, env: Mapping[str, str] | None = None, timeout_s: float = 600.0
) -> subprocess.CompletedProcess[str]:
    """Run this Python in a process of its own, from the project's folder."""
    return subprocess.run(
        [sys.executable, *words], cwd=REPO, env={**os.environ, **(env or {})}, capture_output=True, text=True,
        check=False, timeout=timeout_s,
    )  # fmt: skip
