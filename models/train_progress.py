"""What a person sees of a training: one bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["epoch_bar"]


@contextmanager
def epoch_bar(n_epochs: int) -> Iterator[Callable[[dict[str, float]], None]]:
    """A bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _row: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=n_epochs)
        yield lambda r: bar.update(
            task, advance=1, description=f"validation loss {r['val_loss']:.3f}, right {r['val_accuracy']:.1%}"
        )
