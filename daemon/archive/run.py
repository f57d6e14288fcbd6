"""A whole run: what is to be done, who does it, what became of it."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration.dataset import Progress
from daemon.archive.analyse import FAILED, Outcome, reprocess_recording
from daemon.archive.cluster import Pool
from daemon.archive.folder import ArchiveFolder
from daemon.archive.job import Job, Unit
from daemon.archive.parts import remove_parts
from models.errors import InputError, TonaldError

__all__ = ["Summary", "in_pool", "reprocess"]

Worker = Callable[[Job, Sequence[Unit]], Iterator[dict[str, Any]]]
"""Gives the outcome of each unit as it is known, in any order."""
Task = Callable[[Job, Unit], dict[str, Any]]
GONE = "the scheduler went away: what is done is kept, the same command goes on"
KILLER = "the processes that worked at it died: it needs more memory than they may have, or its decoder crashes on it"


@dataclass(slots=True)
class Summary:
    """What a run did."""

    n_before: int = 0
    """Recordings that were done before."""
    n_changed: int = 0
    """Recordings done again, since they changed."""
    n_gone: int = 0
    """Recordings that were done before and are no longer below the folder; their records stay."""
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    """Of this run."""

    def with_state(self, state: str) -> list[dict[str, Any]]:
        """Outcomes of this run in that state."""
        return [o for o in self.outcomes if o["state"] == state]


def reprocess(
    folder: ArchiveFolder, job: Job, units: Sequence[Unit], work: Worker, progress: Progress, *, redo: bool = False
) -> Summary:
    """Do what is not done yet. The folder must be locked; it is in order at any moment, also when this is interrupted.

    Raises
    ------
    UsageError
        If the folder holds records made with other settings and ``redo`` is not given.
    TonaldError
        If no worker can do its work: the bundle differs, the engine fails, the disk is full.
    """
    folder.begin(job, redo=redo)
    before, n_changed = folder.done(job, units)
    todo = [u for u in units if u.part not in before]
    todo.sort(key=lambda u: -u.stamp[0])  # the long ones first: no process is left with one while the others are idle
    n_gone = len(set(before) - {u.part for u in units})
    summary = Summary(len(before) - n_gone, n_changed, n_gone)
    known: dict[str, dict[str, Any]] = dict(before)
    try:
        for n, outcome in enumerate(work(job, todo), 1):
            summary.outcomes.append(outcome)
            known[outcome["part"]] = outcome
            progress("recordings", n, len(todo))
    finally:
        folder.end(job, known, sum(u.part not in known for u in units))
    return summary


def in_pool(pool: Pool, task: Task = reprocess_recording) -> Worker:
    """Work by a pool, as many recordings under way as it has threads.

    A recording whose worker dies is given to another. One whose workers keep dying is tried once more when all others
    are done, alone, before it is listed as failed: the death may have been a neighbour's fault.
    """

    def work(job: Job, units: Sequence[Unit]) -> Iterator[dict[str, Any]]:
        suspects = []
        for unit, outcome in _finished(pool.client, task, job, units):
            if outcome is None:
                suspects.append(unit)
            else:
                yield outcome
        for unit in suspects:
            for _, outcome in _finished(pool.client, task, job, [unit]):
                yield _given_up(job, unit, KILLER) if outcome is None else outcome

    return work


def _finished(client: Any, task: Task, job: Job, units: Sequence[Unit]) -> Iterator[tuple[Unit, dict[str, Any] | None]]:  # noqa: ANN401  (distributed has no types)
    """Each unit with its outcome, as they are known; None where its workers died."""
    from distributed import as_completed

    waiting = iter(units)
    running: dict[Any, Unit] = {}
    finished = as_completed()

    def submit() -> None:
        n_most = max(1, sum(client.nthreads().values()))
        while len(running) < n_most and (unit := next(waiting, None)) is not None:
            future = client.submit(task, job, unit, key=f"{unit.part}-{uuid.uuid4().hex}", pure=False)
            running[future] = unit
            finished.add(future)

    try:
        submit()
        while running:
            future = next(finished)
            unit = running.pop(future)
            submit()
            yield unit, _outcome(future, job, unit)
    except OSError as e:
        raise InputError(GONE) from e
    finally:
        with contextlib.suppress(OSError):  # nobody is there to be told
            client.cancel(list(running))


def _outcome(future: Any, job: Job, unit: Unit) -> dict[str, Any] | None:  # noqa: ANN401
    from distributed.scheduler import KilledWorker

    if future.status in ("cancelled", "lost"):
        raise InputError(GONE)
    error = future.exception()
    if error is None:
        result: dict[str, Any] = future.result()
        return result
    if isinstance(error, TonaldError):
        raise error
    if isinstance(error, KilledWorker):
        return None
    return _given_up(job, unit, f"unexpected {type(error).__name__}: {error}")


def _given_up(job: Job, unit: Unit, why: str) -> dict[str, Any]:
    remove_parts(Path(job.out), unit.part)
    return dataclasses.asdict(Outcome(unit.recording, unit.part, unit.stamp, FAILED, why))
