"""The forensic ring: a thread that writes what the source gave, deletes the oldest, and freezes what is asked for.

::

    processing thread ─ offer() ─► bounded queue ─► thread: files of 10 s ─► ring/     oldest deleted
                      ─ record() ─► contact starts ─┘   └── span complete ──► frozen/   oldest deleted
                      ◄─ news() ── frozen, lost

The processing thread never waits for a live source: what the queue has no room for is not kept, counted and told. Files
and the simulator can wait, so there it does.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from daemon.config import ForensicConfig
from daemon.forensic.freeze import Freeze
from daemon.forensic.keeper import FILE_S, Keeper
from daemon.forensic.store import Store
from daemon.frames import (
    AudioBlock,
    ClockUpdate,
    Contact,
    Event,
    Forensic,
    Gap,
    SourceState,
    StreamEnd,
    StreamStart,
)
from daemon.requests import Requests
from daemon.takes.side_car import Stamp

__all__ = ["ForensicRing"]

_LOG = logging.getLogger(__name__)

MB = 1_000_000
QUEUE_S = 20.0
"""Of sound between ``offer`` and the thread at most."""
TURN_S = 0.25
WAIT_S = 30.0
"""So long a source that can wait is held up at most."""
MAX_NEWS = 256


class ForensicRing:
    """Keeps sound; ``offer``, ``record`` and ``news`` are called by one thread.

    Parameters
    ----------
    root : Path
        ``forensic`` in the state directory.
    settings : ForensicConfig
    stamp : Stamp
        Its ``stream`` is the publisher's id.

    Raises
    ------
    InputError
        If the folders cannot be used.
    """

    def __init__(self, root: Path, settings: ForensicConfig, stamp: Stamp) -> None:
        self._settings, self._stamp = settings, stamp
        store = Store(root, settings.max_mb * MB, settings.frozen_mb * MB, settings.reserve_mb * MB)
        self._keeper = Keeper(store, settings, stamp, self._tell)  # the thread's own
        self._requests = Requests(root)
        self._thread = threading.Thread(target=self._run, name="forensic", daemon=True)
        # shared, under _changed:
        self._changed = threading.Condition(threading.RLock())
        self._queue: deque[Event | Freeze | Stamp] = deque()
        self._waiting_s = 0.0
        self._closing = False
        self._news: deque[Forensic] = deque(maxlen=MAX_NEWS)
        self._failure: BaseException | None = None
        # of the processing thread:
        self._start: StreamStart | None = None
        self._dropping: tuple[int, int] | None = None  # first sample, samples
        self._lost_total = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    # the processing thread's side

    def offer(self, event: Event, *, wait: bool) -> None:
        """Hand over an event of the source; with ``wait`` wait for room, else go without.

        Raises
        ------
        BaseException
            What ended the thread, if it did not end well.
        """
        seconds = event.n_samples / event.fs if isinstance(event, AudioBlock) else 0.0
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._waiting_s < QUEUE_S or self._failure is not None, WAIT_S)
            if self._failure is not None:
                raise self._failure
            if isinstance(event, StreamStart):
                self._tell_dropped()
                self._start = event
            if isinstance(event, AudioBlock) and self._waiting_s >= QUEUE_S:
                first, n = self._dropping or (event.first_sample, 0)
                self._dropping = first, n + event.n_samples
                return
            if self._waiting_s >= QUEUE_S and isinstance(event, Gap | ClockUpdate | SourceState):
                return  # a queue that stands still takes no more of anything; the hole in the samples tells of a gap
            if isinstance(event, AudioBlock | StreamEnd):
                self._tell_dropped()
            self._queue.append(event)
            self._waiting_s += seconds
            self._changed.notify_all()

    def use(self, stamp: Stamp) -> None:
        """Another bundle or calibration is in force from the next event on."""
        with self._changed:
            self._queue.append(stamp)
            self._changed.notify_all()

    def record(self, contact: Contact) -> None:
        """Freeze what surrounds the start of a contact, if the settings want it."""
        s = self._settings
        if s.on != "contacts" or contact.event != "start" or (s.labels and contact.label not in s.labels):
            return
        first = max(0, contact.first_sample - round(s.before_s * contact.fs))
        end = contact.first_sample + contact.n_samples + round(s.after_s * contact.fs)
        why = f"contact {contact.label} on {contact.channel} from sample {contact.first_sample}"
        with self._changed:
            self._queue.append(Freeze(contact.source, self._stamp.stream, contact.epoch, first, end, contact.fs, [why]))
            self._changed.notify_all()

    def news(self) -> Iterator[Forensic]:
        """What happened since the last call."""
        while self._news:
            yield self._news.popleft()

    def _tell_dropped(self) -> None:
        """Under _changed: say what was not kept while the queue was full."""
        if self._dropping is not None and self._start is not None:
            first, n = self._dropping
            self._dropping = None
            words = "the disk is too slow: the queue was full"
            self._tell(self._start.source, self._start.epoch, "lost", first, n, n, words, None)

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits, freeze what is pending as far as it is there, end the thread."""
        with self._changed:
            self._tell_dropped()
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            _LOG.error("forensic ring: did not end within %g s: the last %g s may be missing", timeout_s, FILE_S)

    # the thread's side

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None or not self._closing:
                if item is not None:
                    self._keeper.process(item)
                if (found := self._requests.take()) is not None:
                    self._requests.answer(found[0], self._keeper.command(found[1]))
            self._keeper.finish()
        except BaseException as e:  # noqa: BLE001  (raised in the processing thread, see offer)
            with self._changed:
                self._failure = e
                self._changed.notify_all()

    def _next(self) -> Event | Freeze | Stamp | None:
        """What waits longest; None if nothing does for a moment."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._queue) or self._closing, TURN_S)
            item = self._queue.popleft() if self._queue else None
            if isinstance(item, AudioBlock):
                self._waiting_s -= item.n_samples / item.fs
                self._changed.notify_all()
            return item

    def _tell(
        self,
        source: str,
        epoch: int,
        event: Literal["frozen", "lost"],
        first: int,
        n: int,
        n_missing: int,
        words: str,
        folder: str | None,
    ) -> None:
        """Log, and keep for ``news``; both threads come here."""
        of_span = folder is None and words.startswith("not frozen")  # its samples were in the ring, or counted before
        with self._changed:
            self._lost_total += n if event == "lost" and not of_span else 0
            total = self._lost_total
        level = logging.INFO if event == "frozen" else logging.WARNING
        _LOG.log(level, "forensic ring: %s: %s%s", event, words, f" -> {folder}" if folder else "")
        self._news.append(Forensic(source, epoch, event, first, n, n_missing, words, folder, total))
