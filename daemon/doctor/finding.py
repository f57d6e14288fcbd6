"""What one check found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from models.errors import TonaldError

__all__ = ["Check", "Finding", "fail", "ok", "run_check", "warn", "worst"]

Status: TypeAlias = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    status: Status
    what: str
    """What was found."""
    cure: str = ""
    """What to do about it; empty if all is well."""

    def __str__(self) -> str:
        return f"{self.status:4}  {self.check:9} {self.what}" + (f" | {self.cure}" if self.cure else "")


Check: TypeAlias = Callable[[], Iterable[Finding]]


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", what)


def warn(check: str, what: str, cure: str) -> Finding:
    """It works, but less well than it could, or nobody can tell."""
    return Finding(check, "warn", what, cure)


def fail(check: str, what: str, cure: str) -> Finding:
    """The daemon would not start, or not do what it is there for."""
    return Finding(check, "fail", what, cure)


def run_check(name: str, check: Check) -> list[Finding]:
    """Findings of one check; what goes wrong within it is one, too, and the next check runs all the same."""
    try:
        return list(check())
    except TonaldError as e:
        return [fail(name, _one_line(e), "as the message says")]
    except OSError as e:
        where = f"{e.filename}: " if e.filename else ""
        return [fail(name, f"{where}{e.strerror or e}", "see that this user may read it")]


def worst(findings: Iterable[Finding]) -> Status:
    """The gravest."""
    found = {f.status for f in findings}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
