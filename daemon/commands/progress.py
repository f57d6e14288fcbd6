"""How far a long command has come: a bar on a terminal, a line per step elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from calibration.dataset import Progress

__all__ = ["shown"]


@contextmanager
def shown() -> Iterator[Progress]:
    """Give a function to tell of progress, on stderr; bars need rich and a terminal."""
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import Progress as Bars
        except ImportError:
            pass
        else:
            with Bars(console=Console(stderr=True), transient=True) as bars:
                tasks: dict[str, int] = {}

                def bar(what: str, done: int, total: int) -> None:
                    if what not in tasks:
                        tasks[what] = int(bars.add_task(what, total=total))
                    bars.update(list(bars.task_ids)[tasks[what]], completed=done, total=total)

                yield bar
            return
    told: set[str] = set()

    def line(what: str, done: int, total: int) -> None:
        if done >= total and what not in told:
            told.add(what)
            print(f"{what}: {total}", file=sys.stderr, flush=True)
        elif done < total:
            told.discard(what)

    yield line
