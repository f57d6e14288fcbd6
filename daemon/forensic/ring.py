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
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from daemon.config import ForensicConfig
from daemon.forensic.freeze import Freeze, write_frozen
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
from daemon.takes.take_writer import TakeWriter
from models.errors import InputError

__all__ = ["ForensicRing"]

_LOG = logging.getLogger(__name__)

MB = 1_000_000
FILE_S = 10.0
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
        self._store = Store(root, settings.max_mb * MB, settings.frozen_mb * MB, settings.reserve_mb * MB)
        self._requests = Requests(root)
        self._thread = threading.Thread(target=self._run, name="forensic", daemon=True)
        # shared, under _changed:
        self._changed = threading.Condition()
        self._queue: deque[Event | Freeze] = deque()
        self._waiting_s = 0.0
        self._closing = False
        self._news: deque[Forensic] = deque(maxlen=MAX_NEWS)
        self._failure: BaseException | None = None
        # of the processing thread:
        self._start: StreamStart | None = None
        self._dropping: tuple[int, int] | None = None  # first sample, samples
        self._lost_total = 0
        # of the thread:
        self._writer = TakeWriter(self._store.ring, stamp, file_s=FILE_S, sync=False)
        self._now: StreamStart | None = None
        self._position = 0
        self._pending: list[Freeze] = []
        self._refused: tuple[int, int, str] | None = None  # first sample, samples, why
        self._n_lost_seen = 0

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
            self._lost_total += n
            self._tell(self._start, "lost", first, n, n, "the disk is too slow: the queue was full")

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
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: bool(self._queue) or self._closing, TURN_S)
                    item = self._queue.popleft() if self._queue else None
                    if item is None and self._closing:
                        break
                    if isinstance(item, AudioBlock):
                        self._waiting_s -= item.n_samples / item.fs
                        self._changed.notify_all()
                if item is not None:
                    self._take(item)
                self._command()
                self._freeze_complete(ended=False)
            self._write(None)
            self._freeze_complete(ended=True)
        except BaseException as e:  # noqa: BLE001  (raised in the processing thread, see offer)
            with self._changed:
                self._failure = e
                self._changed.notify_all()

    def _take(self, item: Event | Freeze) -> None:
        if isinstance(item, Freeze):
            if not any(p.takes_in(item) for p in self._pending):
                self._pending.append(item)
            return
        if isinstance(item, StreamStart):
            self._now, self._position = item, 0
        if isinstance(item, AudioBlock):
            self._position = item.first_sample + item.n_samples
            if not self._room(item):
                self._refuse(item, "the disk is full but for the reserve")
                return
        self._write(item)
        if isinstance(item, StreamEnd):
            self._tell_refused()
            self._freeze_complete(ended=True)
            self._now = None

    def _write(self, event: Event | None) -> None:
        """Write an event, None: finish the file under way; take whole files into the store."""
        try:
            if event is None:
                self._writer.close("frozen, or the daemon ended")
            else:
                self._writer.process(event)
            if isinstance(event, AudioBlock):
                self._tell_refused()
        except InputError as e:
            n = self._writer.n_lost - self._n_lost_seen
            self._n_lost_seen = self._writer.n_lost
            self._refused = self._refused or (self._position - n, 0, str(e))
            self._refused = (self._refused[0], self._refused[1] + n, self._refused[2])
        for path, take in self._writer.done:
            self._store.add(path, take)
        self._writer.done.clear()

    def _room(self, block: AudioBlock) -> bool:
        """Whether the disk may be written to; asked for each block, for others fill it too."""
        return self._store.room_for(4 * block.x.size)

    def _refuse(self, block: AudioBlock, why: str) -> None:
        first, n, _ = self._refused or (block.first_sample, 0, why)
        self._refused = first, n + block.n_samples, why
        if n == 0:
            _LOG.error("forensic ring: %s: nothing is kept from sample %d on", why, first)

    def _tell_refused(self) -> None:
        if self._refused is None or self._now is None:
            return
        first, n, why = self._refused
        self._refused = None
        with self._changed:
            self._lost_total += n
        self._tell(self._now, "lost", first, n, n, why)

    def _tell(
        self, start: StreamStart, event: str, first: int, n: int, n_missing: int, words: str, folder: str | None = None
    ) -> None:
        level = logging.INFO if event == "frozen" else logging.WARNING
        _LOG.log(level, "forensic ring: %s: %s", event, f"{words}{f' -> {folder}' if folder else ''}")
        told: Forensic = Forensic(
            start.source, start.epoch, "frozen" if event == "frozen" else "lost", first, n, n_missing, words, folder,
            self._lost_total,
        )  # fmt: skip
        self._news.append(told)

    # freezing

    def _command(self) -> None:
        """Take a request of 'tonald freeze', if there is one."""
        found = self._requests.take()
        if found is None:
            return
        request, why = found
        s, now = self._settings, self._now
        if now is None:
            self._requests.answer(request, "nothing is frozen: the source gives no sound at present")
            return
        first = max(0, self._position - round(s.before_s * now.fs))
        end = self._position + round(s.after_s * now.fs)
        self._take(Freeze(now.source, self._stamp.stream, now.epoch, first, end, now.fs, [f"command: {why}"]))
        self._requests.answer(
            request, f"freezing up to {s.before_s:g} s before and {s.after_s:g} s after into {self._store.frozen}"
        )

    def _freeze_complete(self, *, ended: bool) -> None:
        """Write each span whose end was reached, or all, where no more comes."""
        for freeze in [f for f in self._pending if ended or self._position >= f.end or not self._same_stream(f)]:
            self._pending.remove(freeze)
            self._freeze(freeze)

    def _same_stream(self, freeze: Freeze) -> bool:
        return self._now is not None and (self._now.source, self._now.epoch) == (freeze.source, freeze.epoch)

    def _freeze(self, freeze: Freeze) -> None:
        self._write(None)
        words = "; ".join(freeze.why)
        of_stream = (freeze.stream, freeze.source, freeze.epoch)
        held = [
            s for s in self._store.segments
            if (s.take.stamp.stream, s.take.source, s.take.epoch) == of_stream
            and s.take.first_sample < freeze.end and s.end > freeze.first
        ]  # fmt: skip
        while held and not self._store.frozen_fits(sum(s.n_bytes for s in held)):
            del held[0]  # the newest part is kept
        n_bytes = sum(s.n_bytes for s in held)
        at = StreamStart(freeze.source, freeze.epoch, freeze.fs, ())
        n_wanted = freeze.end - freeze.first
        if not held or not self._store.room_for(n_bytes, spare=held[0]):
            why = "the ring holds nothing of it" if not held else "the disk is full but for the reserve"
            self._tell(at, "lost", freeze.first, n_wanted, n_wanted, f"not frozen, {why}: {words}")
            return
        began = time.monotonic()
        try:
            for name in self._store.trim_frozen(n_bytes):
                _LOG.warning("forensic ring: frozen %s deleted: forensic.frozen_mb is full", name)
            frozen = write_frozen(freeze, held, self._store.frozen)
        except (InputError, OSError) as e:
            self._tell(at, "lost", freeze.first, n_wanted, n_wanted, f"not frozen, {e}: {words}")
            return
        _LOG.debug("forensic ring: frozen in %.2f s", time.monotonic() - began)
        self._tell(
            at, "frozen", frozen.first_sample, frozen.n_samples, frozen.n_missing, words, frozen.folder.name
        )  # fmt: skip
