"""What the forensic thread does with each event: into files, oldest deleted, spans frozen; no thread, no queue."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, TypeAlias

from daemon.config import ForensicConfig
from daemon.forensic.freeze import Freeze, write_frozen
from daemon.forensic.store import Store
from daemon.frames import AudioBlock, Event, StreamEnd, StreamStart
from daemon.takes.side_car import Stamp
from daemon.takes.take_writer import TakeWriter
from models.errors import InputError

__all__ = ["FILE_S", "Keeper", "Tell"]

_LOG = logging.getLogger(__name__)

FILE_S = 10.0
"""Length of a file of the ring: what a power cut may cost."""
DISK_FULL = "the disk is full but for the reserve"

Tell: TypeAlias = Callable[[str, int, Literal["frozen", "lost"], int, int, int, str, str | None], None]
"""Called with source, epoch, event, first sample, samples, samples missing, words and folder of what happened."""


class Keeper:
    """Used by one thread.

    Parameters
    ----------
    store : Store
    settings : ForensicConfig
    stamp : Stamp
    tell : callable
    """

    def __init__(self, store: Store, settings: ForensicConfig, stamp: Stamp, tell: Tell) -> None:
        self._store, self._settings, self._stamp, self._tell = store, settings, stamp, tell
        self._writer = TakeWriter(store.ring, stamp, file_s=FILE_S, sync=False)
        self._now: StreamStart | None = None
        self._position = 0
        self._pending: list[Freeze] = []
        self._refused: tuple[int, int, str] | None = None  # first sample, samples, why
        self._n_lost_seen = 0

    def process(self, item: Event | Freeze | Stamp) -> None:
        """Take an event of the source, a span that is wanted, or another stamp; freeze what is complete with it."""
        if isinstance(item, Stamp):
            self._write(item)
        elif isinstance(item, Freeze):
            if not any(p.takes_in(item) for p in self._pending):
                self._pending.append(item)
        else:
            self._keep(item)
        self._freeze_complete(all_of_them=isinstance(item, StreamEnd))

    def finish(self) -> None:
        """No more comes: freeze what is pending, as far as it is there."""
        self._write(None)
        self._tell_refused()
        self._freeze_complete(all_of_them=True)

    def command(self, why: str) -> str:
        """Freeze what surrounds this moment; an answer for people."""
        s, now = self._settings, self._now
        if now is None:
            return "nothing is frozen: the source gives no sound at present"
        first = max(0, self._position - round(s.before_s * now.fs))
        end = self._position + round(s.after_s * now.fs)
        self.process(Freeze(now.source, self._stamp.stream, now.epoch, first, end, now.fs, [f"command: {why}"]))
        return f"freezing up to {s.before_s:g} s before and {s.after_s:g} s after into {self._store.frozen}"

    # keeping

    def _keep(self, event: Event) -> None:
        if isinstance(event, StreamStart):
            self._tell_refused()
            self._now, self._position = event, 0
        if isinstance(event, AudioBlock):
            self._position = event.first_sample + event.n_samples
            if not self._store.room_for(4 * event.x.size):  # asked for each block: others fill the disk, too
                self._refuse(event.first_sample, event.n_samples, DISK_FULL)
                return
        self._write(event)
        if isinstance(event, StreamEnd):
            self._tell_refused()
            self._now = None

    def _write(self, event: Event | Stamp | None) -> None:
        """Write an event, None: finish the file under way; take whole files into the store."""
        try:
            if event is None:
                self._writer.close("frozen, or the daemon ended")
            elif isinstance(event, Stamp):
                self._writer.use(event)
            else:
                self._writer.process(event)
            if isinstance(event, AudioBlock):
                self._tell_refused()
        except InputError as e:
            first = self._position if self._writer.lost_from is None else self._writer.lost_from
            self._refuse(first, self._writer.n_lost - self._n_lost_seen, str(e))
            self._writer.lost_from = None
        self._n_lost_seen = self._writer.n_lost
        for path, take in self._writer.done:
            self._store.add(path, take)
        self._writer.done.clear()

    def _refuse(self, first: int, n: int, why: str) -> None:
        """Remember what was not kept; it is told when it goes on, or ends."""
        if self._refused is None:
            _LOG.error("forensic ring: %s: nothing is kept from sample %d on", why, first)
            self._refused = first, 0, why
        self._refused = min(self._refused[0], first), self._refused[1] + n, self._refused[2]

    def _tell_refused(self) -> None:
        if self._refused is not None and self._now is not None:
            first, n, why = self._refused
            self._refused = None
            self._tell(self._now.source, self._now.epoch, "lost", first, n, n, why, None)

    # freezing

    def _freeze_complete(self, *, all_of_them: bool) -> None:
        """Write each span whose end was reached, or whose stream is over."""
        for freeze in [f for f in self._pending if all_of_them or not self._goes_on(f)]:
            self._pending.remove(freeze)
            self._freeze(freeze)

    def _goes_on(self, freeze: Freeze) -> bool:
        now = self._now
        same = now is not None and (now.source, now.epoch) == (freeze.source, freeze.epoch)
        return same and self._position < freeze.end

    def _freeze(self, freeze: Freeze) -> None:
        self._write(None)
        words, n_wanted = "; ".join(freeze.why), freeze.end - freeze.first
        held = [
            s for s in self._store.segments
            if (s.take.stamp.stream, s.take.source, s.take.epoch) == (freeze.stream, freeze.source, freeze.epoch)
            and s.take.first_sample < freeze.end and s.end > freeze.first
        ]  # fmt: skip
        while held and not self._store.frozen_fits(sum(s.n_bytes for s in held)):
            del held[0]  # the newest part is kept
        n_bytes = sum(s.n_bytes for s in held)
        problem = "" if held else "the ring holds nothing of it"
        if held and not self._store.room_for(n_bytes, spare=held[0]):
            problem = DISK_FULL
        if not problem:
            try:
                for name in self._store.trim_frozen(n_bytes):
                    _LOG.warning("forensic ring: frozen %s deleted: forensic.frozen_mb is full", name)
                frozen = write_frozen(freeze, held, self._store.frozen)
            except (InputError, OSError) as e:
                problem = str(e)
        if problem:
            why = f"not frozen, {problem}: {words}"
            self._tell(freeze.source, freeze.epoch, "lost", freeze.first, n_wanted, n_wanted, why, None)
        else:
            self._tell(
                freeze.source, freeze.epoch, "frozen", frozen.first_sample, frozen.n_samples, frozen.n_missing, words,
                frozen.folder.name,
            )  # fmt: skip
