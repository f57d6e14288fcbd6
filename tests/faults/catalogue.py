"""The catalogue: each fault with its cause, what must happen, and a function that causes it and says what did.

Numbers 1 to 42 are those of the first design; from 43 on they were added. A function registers itself with ``@fault``;
it gets an empty folder and returns in words, with figures, what it observed. It raises ``Broken`` if a promise is
broken and ``NotRun`` if the fault cannot be caused here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

AREAS = ("capture", "samples", "clock", "engine", "delivery", "storage", "security", "process", "config")

#: Faults whose defence is not in this tree yet, and what is missing. Take a number out to have it run.
PENDING: dict[int, str] = {}


class Broken(Exception):  # noqa: N818  (the verdict's word)
    """A promise was broken: what was observed instead."""


class NotRun(Exception):  # noqa: N818
    """The fault cannot be caused here: why, and what comes nearest."""


@dataclass(frozen=True)
class Fault:
    """One entry."""

    number: int
    area: str
    cause: str
    expected: str
    run: Callable[[Path], str]


_FAULTS: dict[int, Fault] = {}


def fault(number: int, cause: str, expected: str) -> Callable[[Callable[[Path], str]], Callable[[Path], str]]:
    """Register the function that causes it."""

    def register(run: Callable[[Path], str]) -> Callable[[Path], str]:
        known = _FAULTS.get(number)
        if known is not None and known.run.__name__ != run.__name__:
            raise ValueError(f"fault {number} is there already: {known.cause}")
        _FAULTS[number] = Fault(number, run.__module__.rpartition(".")[2], cause, expected, run)
        return run

    return register


def catalogue() -> list[Fault]:
    """All entries, by number."""
    for area in AREAS:
        importlib.import_module(f"tests.faults.{area}")
    return [_FAULTS[n] for n in sorted(_FAULTS)]


def promise(kept: bool, words: str) -> None:
    """Raise ``Broken`` with what was observed unless the promise was kept."""
    if not kept:
        raise Broken(words)
