"""How far a long command has come: a bar on a terminal, a line per step elsewhere."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from calibration.dataset import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

__all__ = ["shown"]


@contextmanager
def shown() -> Iterator[Progress]:
    """Give a function to tell of progress, on stderr; bars need rich and a terminal."""
    if not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield _line
        return
    bar = _Bar()
    try:
        yield bar
    finally:
        bar.stop()


def _line(what: str, done: int, total: int) -> None:
    if done >= total:
        print(f"{what}: {total}", file=sys.stderr, flush=True)


class _Bar:
    """One bar at a time, gone when its step is over: the trainer shows one of its own."""

    def __init__(self) -> None:
        self._what = ""
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if done >= total or what != self._what:
            self.stop()
        if done >= total:
            return
        if self._bars is None or self._task is None:
            from rich.console import Console
            from rich.progress import Progress as NewBars

            self._what, self._bars = what, NewBars(console=Console(stderr=True), transient=True)
            self._bars.start()
            self._task = self._bars.add_task(what, total=total)
        self._bars.update(self._task, completed=done, total=total)

    def stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._what, self._bars, self._task = "", None, None
