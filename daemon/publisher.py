"""Hands messages to ZeroMQ from a thread of its own, numbers them per topic, and says so when some are lost.

::

    put() ─► numbered, encoded ─► bounded queue ─► thread: XPUB ─► subscribers
                                                     ├─ heartbeat/ every second, high-water mark of each topic
                                                     └─ info/ and status/ once more for each new subscriber

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
from typing import NamedTuple

import zmq

from daemon.endpoints import Endpoint
from daemon.wire import Identity, Message, common, encode, sequence_frame, topic_of
from models.errors import ConfigError, PublishError

__all__ = ["Publisher"]

_log = logging.getLogger(__name__)

RETRY_MS = 5
QUIET_S = 0.05
MAX_SUBSCRIPTION = 1 << 16
CACHED = ("info/", "status/")


class _Item(NamedTuple):
    """A numbered message in the queue."""

    topic: str
    sequence: int
    frames: list[bytes]
    wait: bool


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

    Raises
    ------
    ConfigError
        If an endpoint is malformed or would be open to the network.
    """

    def __init__(
        self,
        identity: Identity,
        endpoints: list[str] | tuple[str, ...],
        *,
        hwm: int = 1000,
        n_queue: int = 256,
        stall_timeout_s: float = 30.0,
        heartbeat_s: float = 1.0,
    ) -> None:
        if not endpoints:
            raise ConfigError("publish.endpoints is empty: nobody could listen; give at least tcp://127.0.0.1:5565")
        self.identity = identity
        self.endpoints: tuple[str, ...] = ()
        """Where the socket is bound, ports filled in; empty before ``start``."""
        self._wanted = [Endpoint.parse(e) for e in endpoints]
        self._hwm, self._n_queue = hwm, n_queue
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
        self._n_subscriptions = 0
        self._close_by: float | None = None
        self._failure: BaseException | None = None
        self._wake_r, self._wake_w = -1, -1
        # The thread's own:
        self._sent: dict[str, int] = {}
        self._cache: dict[str, list[bytes]] = {}
        self._wanted_again: set[bytes] = set()
        self._n_sent = self._n_stalls = self._n_beats = 0
        self._t_start = self._next_beat = 0.0
        self._waits = False

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
                self._queue.append(_Item(message.topic, sequence, frames, wait))
                if len(self._queue) == 1:
                    self._wake()
                return True
        if first:
            _log.warning("publisher queue of %d messages is full, dropping; the heartbeat counts them", self._n_queue)
        return False

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
                due = deadline if self._subscribed_at is None else self._subscribed_at + QUIET_S
                if now >= due:
                    return self._subscribed_at is not None
                self._room.wait(due - now)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put is handed to ZeroMQ; False after ``timeout_s``.

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
        context = zmq.Context()
        socket = context.socket(zmq.XPUB)
        try:
            self.endpoints = self._bind(socket)
            self._t_start = time.monotonic()
            self._next_beat = self._t_start
            self._started.set()
            self._serve(socket)
        except BaseException as e:  # noqa: BLE001  (handed to the main thread, which ends the process)
            self._failure = e
            if self._started.is_set():
                _log.error("publisher died: %s", e)
        finally:
            left = 0.0 if self._close_by is None else max(0.0, self._close_by - time.monotonic())
            socket.close(linger=0 if self._failure else round(1000 * left))
            context.term()
            self._started.set()
            with self._room:
                self._queue.clear()
                self._busy = False
                self._room.notify_all()

    def _bind(self, socket: zmq.Socket[bytes]) -> tuple[str, ...]:
        for option, value in (
            (zmq.SNDHWM, self._hwm),
            (zmq.XPUB_VERBOSER, 1),  # each subscriber's coming and going is seen, not only the first per topic
            (zmq.MAXMSGSIZE, MAX_SUBSCRIPTION),  # of what peers send; unset, one peer can pin gigabytes
            (zmq.HANDSHAKE_IVL, 2000),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, 30),
            (zmq.TCP_KEEPALIVE_INTVL, 10),
            (zmq.TCP_KEEPALIVE_CNT, 3),
            (zmq.IPV6, int(any(e.is_ipv6 for e in self._wanted))),
        ):
            socket.setsockopt(option, value)
        return tuple(e.bind(socket) for e in self._wanted)

    def _serve(self, socket: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wake_r, zmq.POLLIN)
        while True:
            self._subscriptions(socket)
            self._repeat(socket)
            with self._room:
                item = self._queue.popleft() if self._queue else None
                self._busy = item is not None
                closing = self._close_by is not None
                self._room.notify_all()
            if item is not None:
                self._waits = item.wait
                self._send(socket, item.frames, item.topic, item.sequence)
            elif closing:
                self._next_beat = math.inf
                self._beat(socket, final=True)
                return
            if time.monotonic() >= self._next_beat:
                self._beat(socket, final=False)
            if item is None:
                poller.poll(max(0, round(1000 * (self._next_beat - time.monotonic()))))
                self._drain_wakes()

    def _drain_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_r, 4096)

    def _send(self, socket: zmq.Socket[bytes], frames: list[bytes], topic: str, sequence: int) -> None:
        frames = [*frames, sequence_frame(sequence)]
        self._deliver(socket, frames)
        self._sent[topic] = sequence
        self._n_sent += 1
        if topic.startswith(CACHED):
            self._cache[topic] = frames

    def _deliver(self, socket: zmq.Socket[bytes], frames: list[bytes]) -> None:
        """Send; while messages can wait, only once every subscriber has room, or after the stall timeout."""
        began = time.monotonic()
        while self._waits:
            if self._try(socket, frames):
                return
            if time.monotonic() >= min(began + self._stall_timeout_s, self._close_by or math.inf):
                self._n_stalls += 1
                _log.warning("a subscriber took nothing for %.1f s: it loses messages", time.monotonic() - began)
                break
            if socket.poll(RETRY_MS):
                self._subscriptions(socket)
            if time.monotonic() >= self._next_beat:
                self._beat(socket, final=False)
        self._drop_or_send(socket, frames)

    @staticmethod
    def _drop_or_send(socket: zmq.Socket[bytes], frames: list[bytes]) -> None:
        """Send to all who have room; who has none is passed over until it has."""
        socket.setsockopt(zmq.XPUB_NODROP, 0)
        socket.send_multipart(frames)

    @staticmethod
    def _try(socket: zmq.Socket[bytes], frames: list[bytes]) -> bool:
        """Send to all who want it, or to none if one of them has no room."""
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        try:
            socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _beat(self, socket: zmq.Socket[bytes], *, final: bool) -> None:
        """One heartbeat. It never pushes a replay's subscriber over its limit: then it is left out."""
        now = time.monotonic()
        while self._next_beat <= now:
            self._next_beat += self._heartbeat_s
        with self._room:
            idle = not self._queue and not self._busy
            high_water = dict(self._numbered if idle else self._sent)
            counts = {
                "n_sent": self._n_sent, "n_dropped": self._n_dropped,
                "n_stalls": self._n_stalls, "n_subscriptions": self._n_subscriptions,
            }  # fmt: skip
        body = {
            **common(self.identity, "heartbeat"),
            "interval_s": self._heartbeat_s, "uptime_s": now - self._t_start, "t_sent_ns": time.time_ns(),
            "final": final, "high_water": high_water, **counts,
        }  # fmt: skip
        frames = [*encode(Message(topic_of("heartbeat"), body)), sequence_frame(self._n_beats)]
        if final:
            self._deliver(socket, frames)
        elif not self._waits:
            self._drop_or_send(socket, frames)
        elif not self._try(socket, frames):
            return
        self._n_beats += 1

    def _subscriptions(self, socket: zmq.Socket[bytes]) -> None:
        """Note who came and went."""
        came, n = False, 0
        while n < 1000 and socket.poll(0):
            frame = socket.recv(zmq.NOBLOCK)
            n += 1
            if frame[:1] == b"\x01":
                came = True
                self._n_subscriptions += 1
                self._wanted_again.add(frame[1:256])
            elif frame[:1] == b"\x00":
                self._n_subscriptions -= 1
        if came:
            with self._room:
                self._subscribed_at = time.monotonic()
                self._room.notify_all()

    def _repeat(self, socket: zmq.Socket[bytes]) -> None:
        """Send the last info/ and status/ again, numbers unchanged, to whom they are news."""
        wanted, self._wanted_again = tuple(self._wanted_again), set()
        for topic, frames in self._cache.items() if wanted else ():
            if topic.encode().startswith(wanted):
                self._deliver(socket, frames)
