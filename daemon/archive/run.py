"""A whole run: what is to be done, who does it, what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration.dataset import Progress
from daemon.archive.analyse import FAILED, Outcome, reprocess_recording
from daemon.archive.cluster import ALLOWED_DEATHS, Pool
from daemon.archive.folder import ArchiveFolder
from daemon.archive.job import Job, Unit
from daemon.archive.parts import remove_parts
from models.errors import TonaldError

__all__ = ["Summary", "in_pool", "reprocess"]

Worker = Callable[[Job, Sequence[Unit]], Iterator[dict[str, Any]]]
"""Gives the outcome of each unit as it is known, in any order."""


@dataclass(slots=True)
class Summary:
    """What a run did."""

    n_before: int = 0
    """Recordings that were done before."""
    n_changed: int = 0
    """Recordings done again, since they changed."""
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
    summary = Summary(len(before), n_changed)
    known: dict[str, dict[str, Any]] = dict(before)
    try:
        for n, outcome in enumerate(work(job, todo), 1):
            summary.outcomes.append(outcome)
            known[outcome["part"]] = outcome
            progress("recordings", n, len(todo))
    finally:
        folder.end(job, known, len(units) - len(known))
    return summary


def in_pool(pool: Pool) -> Worker:
    """Work by a pool, as many recordings under way as it has threads, and as many waiting."""

    def work(job: Job, units: Sequence[Unit]) -> Iterator[dict[str, Any]]:
        from distributed import as_completed

        waiting = iter(units)
        running: dict[Any, Unit] = {}
        finished = as_completed()

        def submit() -> None:
            n_most = 2 * max(1, sum(_threads(pool.client)))
            while len(running) < n_most and (unit := next(waiting, None)) is not None:
                future = pool.client.submit(reprocess_recording, job, unit, key=f"{unit.part}-{job.key}", pure=False)
                running[future] = unit
                finished.add(future)

        try:
            submit()
            while running:
                future = next(finished)
                unit = running.pop(future)
                yield _outcome(future, job, unit)
                submit()
        finally:
            pool.client.cancel(list(running))

    return work


def _threads(client: Any) -> list[int]:  # noqa: ANN401  (distributed has no types)
    workers: Mapping[str, Mapping[str, int]] = client.scheduler_info(n_workers=-1)["workers"]
    return [w["nthreads"] for w in workers.values()]


def _outcome(future: Any, job: Job, unit: Unit) -> dict[str, Any]:  # noqa: ANN401
    from distributed.scheduler import KilledWorker

    error = future.exception()
    if error is None:
        result: dict[str, Any] = future.result()
        return result
    if isinstance(error, TonaldError):
        raise error
    what = f"unexpected {type(error).__name__}: {error}"
    if isinstance(error, KilledWorker):
        what = f"{ALLOWED_DEATHS + 1} workers died while they were at it: out of memory, or the decoder crashes on it"
    remove_parts(Path(job.out), unit.part)
    outcome = Outcome(unit.recording, unit.part, unit.stamp, FAILED, what)
    return {name: getattr(outcome, name) for name in Outcome.__slots__}
