"""Hands messages to ZeroMQ from a thread of its own, numbers them per topic, and says so when some are lost.

::

    put() ─► numbered, encoded ─► bounded queue ─► thread: journal ─► outlet ─► subscribers
                                                              │          ├─ heartbeat/ every second, high-water marks
                                                              │          └─ info/ and status/ for each new subscriber
                                                              └─► replay (a thread of its own) ─► who missed some

Records of `daemon.wire.JOURNALLED` are on disk before they are sent, several at a time where several wait.

What cannot wait (``wait=False``, live sound) is dropped when the queue is full, and a slow subscriber loses what
exceeds its share; both show as a jump in the sequence numbers. What can wait (``wait=True``, files) holds back the
caller until queue and subscribers have room, but a stuck subscriber only for ``stall_timeout_s``.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections import deque
from types import TracebackType
from typing import Any, NamedTuple

from daemon.allow_list import AllowList
from daemon.curve import CurveServer, open_endpoints
from daemon.journal.journal import Journal
from daemon.journal.replay import Replayer
from daemon.outlet import Outlet
from daemon.wire import JOURNALLED, Identity, Message, common, encode, numbered, sequence_frame, topic_of
from models.errors import ConfigError, PublishError

__all__ = ["Publisher"]

_log = logging.getLogger(__name__)

QUIET_S = 0.05
GROUP = 32
"""Messages taken from the queue at a time: their records are put on disk by one call."""


class _Item(NamedTuple):
    """A numbered message in the queue."""

    topic: str
    sequence: int
    frames: list[bytes]
    wait: bool
    journalled: bool


class Publisher:
    """One ZeroMQ XPUB socket bound to all endpoints.

    Parameters
    ----------
    identity : Identity
        Names node and publisher in heartbeats; records must carry the same.
    endpoints : sequence of str
        ``tcp://127.0.0.1:5565`` (``*`` as port: any free one), ``ipc:///run/tonald/out``.
    hwm : int
        Messages kept for one slow subscriber.
    n_queue : int
        Messages between ``put`` and the thread.
    stall_timeout_s : float
        How long a stuck subscriber may hold up messages that can wait.
    heartbeat_s : float
        Between heartbeats.
    curve : CurveServer, optional
        Keys, and who may listen; needed by endpoints that are open to the network.
    journal : Journal, optional
        Where records are kept for replay; closed with the publisher.
    replay_endpoints : sequence of str
        Where it is replayed, under the rules of ``endpoints``.

    Raises
    ------
    ConfigError
        If an endpoint is malformed, or would be open to the network without keys.
    """

    def __init__(
        self,
        identity: Identity,
        endpoints: list[str] | tuple[str, ...],
        *,
        hwm: int = 1000,
        n_queue: int = 2048,
        stall_timeout_s: float = 30.0,
        heartbeat_s: float = 1.0,
        curve: CurveServer | None = None,
        journal: Journal | None = None,
        replay_endpoints: list[str] | tuple[str, ...] = (),
    ) -> None:
        if not endpoints:
            raise ConfigError("publish.endpoints is empty: nobody could listen; give at least tcp://127.0.0.1:5565")
        self.identity = identity
        self.endpoints: tuple[str, ...] = ()
        """Where the socket is bound, ports filled in; empty before ``start``."""
        self.replay_endpoints: tuple[str, ...] = ()
        """Where the journal is replayed; empty before ``start``."""
        self._wanted, self._wanted_replay = open_endpoints(endpoints, curve), open_endpoints(replay_endpoints, curve)
        self._journal = journal
        self._replayer: Replayer | None = None
        self._outlet: Outlet | None = None  # the thread's own; others only read its counts
        self._hwm, self._n_queue, self._curve = hwm, n_queue, curve
        self._stall_timeout_s, self._heartbeat_s = stall_timeout_s, heartbeat_s
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._started = threading.Event()
        # Shared, under _room:
        self._room = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._numbered: dict[str, int] = {}
        self._busy = False
        self._n_dropped = 0
        self._subscribed_at: float | None = None
        self._admit: AllowList | None = None
        self._close_by: float | None = None
        self._failure: BaseException | None = None
        self._wake_r, self._wake_w = -1, -1
        # The thread's own:
        self._sent: dict[str, int] = {}
        self._n_sent = self._n_beats = 0
        self._journal_next = 1 if journal is None else journal.snapshot().next_seq
        self._t_start = self._next_beat = 0.0
        self._patient = False

    def __enter__(self) -> Publisher:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        self.close()

    # the caller's side

    def start(self) -> None:
        """Bind and start the thread.

        Raises
        ------
        PublishError
            If an endpoint cannot be bound; names it and says what to do.
        """
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            self._close_pipe()
            raise self._failure

    @property
    def failed(self) -> BaseException | None:
        """What ended the thread before its time; None while all is well."""
        return self._failure

    def state(self) -> dict[str, Any]:
        """What the queue, the socket and the journal hold and lost, at this moment; any thread may ask."""
        outlet, journal = self._outlet, self._journal
        with self._room:
            n_queued, n_dropped = len(self._queue), self._n_dropped
        return {
            "endpoints": list(self.endpoints), "n_queued": n_queued, "n_queue": self._n_queue, "n_sent": self._n_sent,
            "n_dropped": n_dropped, "n_stalls": 0 if outlet is None else outlet.n_stalls,
            "n_subscriptions": 0 if outlet is None else outlet.n_subscriptions,
            "journal": None if journal is None else {**journal.state(), "replay": list(self.replay_endpoints)},
        }  # fmt: skip

    def put(self, message: Message, *, wait: bool) -> bool:
        """Number and queue one message; False if it was dropped because the queue is full.

        Parameters
        ----------
        message : Message
        wait : bool
            True: block until there is room. False: drop and count.

        Raises
        ------
        PublishError
            If the thread died or the publisher is closed.
        WireError
            If the message cannot be encoded.
        """
        frames = encode(message)
        with self._room:
            while wait and len(self._queue) >= self._n_queue and self._usable():
                self._room.wait(0.5)
            self._check()
            sequence = self._numbered.get(message.topic, -1) + 1
            self._numbered[message.topic] = sequence
            if len(self._queue) >= self._n_queue:
                self._n_dropped += 1
                first = self._n_dropped == 1
            else:
                self._queue.append(_Item(message.topic, sequence, frames, wait, message.family in JOURNALLED))
                if len(self._queue) == 1:
                    self._wake()
                return True
        if first:
            _log.warning("publisher queue of %d messages is full, dropping; the heartbeat counts them", self._n_queue)
        return False

    def admit(self, allowed: AllowList) -> None:
        """Put another list of clients in force; who is on it no more is cut off."""
        with self._room:
            self._admit = allowed
            self._wake()

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """Wait until someone has subscribed, and for all subscriptions made at once; False after ``timeout_s``.

        Raises
        ------
        PublishError
            If the thread died or the publisher is closed.
        """
        deadline = time.monotonic() + timeout_s
        with self._room:
            while True:
                self._check()
                now = time.monotonic()
                due = deadline if self._subscribed_at is None else min(deadline, self._subscribed_at + QUIET_S)
                if now >= due:
                    return self._subscribed_at is not None
                self._room.wait(due - now)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put is handed to ZeroMQ; False after ``timeout_s``.

        What a slow subscriber has yet to read is waited for by ``close``.

        Raises
        ------
        PublishError
            If the thread died or the publisher is closed.
        """
        deadline = time.monotonic() + timeout_s
        with self._room:
            while self._queue or self._busy:
                self._check()
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._room.wait(left)
        return True

    def close(self, timeout_s: float = 5.0) -> None:
        """Send what is queued and a last heartbeat, let subscribers read it, and end the thread; may be called twice.

        Takes at most about ``timeout_s``; what a stuck subscriber has not taken by then is lost to it.
        """
        with self._room:
            if self._close_by is None:
                self._close_by = time.monotonic() + timeout_s
            self._room.notify_all()
            self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s + 5.0)
            if self._thread.is_alive():
                raise PublishError(f"publisher did not end within {timeout_s + 5.0:g} s")
        self._close_pipe()

    def _usable(self) -> bool:
        return self._failure is None and self._close_by is None

    def _check(self) -> None:
        if self._thread.ident is None:
            raise PublishError("publisher is not started")
        if self._failure is not None:
            raise PublishError(f"publisher died: {self._failure}") from self._failure
        if self._close_by is not None:
            raise PublishError("publisher is closed")

    def _wake(self) -> None:
        if self._wake_w >= 0:
            with contextlib.suppress(BlockingIOError):  # full of wake-ups not yet read: it will wake
                os.write(self._wake_w, b"!")

    def _close_pipe(self) -> None:
        with self._room:
            for fd in (self._wake_r, self._wake_w):
                if fd >= 0:
                    os.close(fd)
            self._wake_r = self._wake_w = -1

    # the thread's side

    def _run(self) -> None:
        outlet: Outlet | None = None
        try:
            outlet = self._outlet = Outlet(self._wanted, self._hwm, self._stall_timeout_s, self._curve)
            self.endpoints = outlet.bind()
            if self._journal is not None and self._wanted_replay:
                self._replayer = Replayer(outlet.context, self._wanted_replay, self._journal.snapshot, self._curve)
                self.replay_endpoints = self._replayer.endpoints
            outlet.wake_on(self._wake_r)
            self._t_start = self._next_beat = time.monotonic()
            self._started.set()
            self._serve(outlet)
        except BaseException as e:  # noqa: BLE001  (handed to the main thread, which ends the process)
            self._failure = e
            if self._started.is_set():
                _log.error("publisher died: %s", e)
        finally:
            if self._replayer is not None:
                self._replayer.close()
            if self._journal is not None:
                self._journal.close()
            if outlet is not None:
                outlet.close(0.0 if self._failure else max(0.0, self._deadline() - time.monotonic()))
            self._started.set()
            with self._room:
                self._queue.clear()
                self._busy = False
                self._room.notify_all()

    def _serve(self, outlet: Outlet) -> None:
        while True:
            self._see(outlet)
            for frames in outlet.news():
                self._deliver(outlet, frames)
            with self._room:
                items = [self._queue.popleft() for _ in range(min(len(self._queue), GROUP))]
                self._busy = bool(items)
                closing = self._close_by is not None
                self._room.notify_all()
            for item, (frames, journal_seq) in zip(items, self._kept(items), strict=True):
                self._patient = item.wait
                self._deliver(outlet, frames)
                if journal_seq is not None:
                    self._journal_next = journal_seq + 1
                self._sent[item.topic] = item.sequence
                self._n_sent += 1
                outlet.keep(item.topic, frames)
                self._beat(outlet)
            if not items and closing:
                self._next_beat, self._patient = math.inf, True
                self._deliver(outlet, self._heartbeat(outlet, final=True))
                return
            self._beat(outlet)
            if not items:
                outlet.sleep(self._next_beat - time.monotonic())
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_r, 4096)

    def _kept(self, items: list[_Item]) -> list[tuple[list[bytes], int | None]]:
        """Frames to send; those of records in the journal with their number there, once they are on disk."""
        frames = [[*i.frames, sequence_frame(i.sequence)] for i in items]
        numbers: list[int | None] = [None] * len(items)
        which = [n for n, item in enumerate(items) if item.journalled]
        if self._journal is not None and which:
            for n, seq in zip(which, self._journal.append([frames[n] for n in which], numbered), strict=True):
                if seq is not None:
                    frames[n], numbers[n] = numbered(frames[n], seq), seq
        return list(zip(frames, numbers, strict=True))

    def _see(self, outlet: Outlet) -> None:
        if self._replayer is not None and self._replayer.failed is not None:
            raise PublishError(f"replay died: {self._replayer.failed}") from self._replayer.failed
        with self._room:
            allowed, self._admit = self._admit, None
        if allowed is not None:
            outlet.admit(allowed)
            if self._replayer is not None:
                self._replayer.evict()
        if outlet.subscriptions():
            with self._room:
                self._subscribed_at = time.monotonic()
                self._room.notify_all()

    def _deliver(self, outlet: Outlet, frames: list[bytes]) -> None:
        """Send as the last record was to be sent: with patience, or at once."""
        if self._patient:
            outlet.send_all(frames, self._deadline, lambda: self._meanwhile(outlet))
        else:
            outlet.send(frames)

    def _meanwhile(self, outlet: Outlet) -> None:
        self._see(outlet)
        self._beat(outlet)

    def _deadline(self) -> float:
        return math.inf if self._close_by is None else self._close_by

    def _beat(self, outlet: Outlet) -> None:
        """A heartbeat, if due. It is left out rather than push a replay's subscriber over its limit."""
        now = time.monotonic()
        if now < self._next_beat:
            return
        self._next_beat += self._heartbeat_s * math.ceil((now - self._next_beat) / self._heartbeat_s + 1e-9)
        frames = self._heartbeat(outlet, final=False)
        if not self._patient:
            outlet.send(frames)
        elif not outlet.offer(frames):
            return
        self._n_beats += 1

    def _heartbeat(self, outlet: Outlet, *, final: bool) -> list[bytes]:
        with self._room:
            idle = not self._queue and not self._busy
            high_water = dict(self._numbered if idle else self._sent)
            n_dropped = self._n_dropped
        body = {
            **common(self.identity, "heartbeat"),
            "interval_s": self._heartbeat_s, "uptime_s": time.monotonic() - self._t_start,
            "t_sent_ns": time.time_ns(), "final": final, "high_water": high_water, "n_sent": self._n_sent,
            "n_dropped": n_dropped, "n_stalls": outlet.n_stalls, "n_subscriptions": outlet.n_subscriptions,
            "journal": None
            if self._journal is None
            else {**self._journal.state(), "next_seq": self._journal_next, "replay": list(self.replay_endpoints)},
        }  # fmt: skip
        return [*encode(Message(topic_of("heartbeat"), body)), sequence_frame(self._n_beats)]
