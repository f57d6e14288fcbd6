"""Gives what was missed to who asks: a ROUTER socket on a thread of its own (docs/wire/README.md, "Replay").

::

    asked:  ["tonald-replay/1", msgpack {first, n}]                 n entries from journal_seq ``first`` on
    given:  ["record", journal_seq u64, the frames as published…]   each, in order
            ["end", msgpack {next, missing, first_seq, end_seq, id}]

Nothing waits: requests are read and answers written without blocking, in turns over the clients, so that one who does
not read costs the others nothing; it is dropped when it took nothing for a while.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgpack
import zmq

from daemon.curve import CurveServer, bind_all
from daemon.endpoints import Endpoint
from daemon.journal.journal import Snapshot
from daemon.journal.reader import Reader
from models.errors import PublishError

__all__ = ["PROTOCOL", "Replayer"]

_log = logging.getLogger(__name__)

PROTOCOL = b"tonald-replay/1"
MAX_REQUEST = 2048
"""Bytes of one frame of a request; the handshake of a client with keys needs some hundred."""
MAX_N, MAX_BYTES = 500, 8 << 20
"""Of one answer."""
MAX_CLIENTS = 200
"""Answers under way at once; who comes then is told to come again."""
PATIENCE_S = 20.0
"""A client that takes nothing for so long is dropped."""
TURN_MS, BUSY_MS = 100, 2
BURST = 16
"""Frames sent to one client before the next has its turn."""
HWM = 64


@dataclass(slots=True, eq=False)
class _Answer:
    """What one client has yet to get."""

    frames: deque[list[bytes]]
    moved_at: float
    """When it took something last, CLOCK_MONOTONIC, s."""


class Replayer:
    """Serves one journal.

    Parameters
    ----------
    context : zmq.Context
        Of the publisher: its gatekeeper guards this door, too.
    endpoints : sequence of Endpoint
    snapshot : callable
        `daemon.journal.journal.Journal.snapshot`.
    curve : CurveServer, optional

    Raises
    ------
    PublishError
        If an endpoint cannot be bound.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoints: Sequence[Endpoint],
        snapshot: Callable[[], Snapshot],
        curve: CurveServer | None = None,
    ) -> None:
        self.failed: BaseException | None = None
        """What ended the thread before its time."""
        self.n_records = self.n_refused = 0
        self._snapshot = snapshot
        self._socket = context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.SNDHWM, HWM), (zmq.RCVHWM, HWM), (zmq.LINGER, 0),
            (zmq.MAXMSGSIZE, MAX_REQUEST),
            (zmq.ROUTER_MANDATORY, 1),  # a client without room is seen, not passed over in silence
            (zmq.HANDSHAKE_IVL, 2000), (zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 30),
            (zmq.IPV6, int(any(e.is_ipv6 for e in endpoints))),
        ):  # fmt: skip
            self._socket.setsockopt(option, value)
        try:
            bound = bind_all(self._socket, endpoints, curve)
        except BaseException:
            self._socket.close(linger=0)
            raise
        self.endpoints = tuple(bound[e] for e in endpoints)
        """With ports filled in."""
        self._guarded = [bound[e] for e in endpoints if curve is not None and curve.guards(e)]
        self._answers: dict[bytes, _Answer] = {}
        self._readers: dict[bytes, Reader] = {}
        self._stop, self._evict = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._thread.start()

    def evict(self) -> None:
        """Cut off who came with a key, as keys were taken off the list; who may comes back by itself."""
        self._evict.set()

    def close(self) -> None:
        """End the thread and let go of the socket; may be called twice."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._evict.is_set():
                    self._evict.clear()
                    self._bind_again()
                if self._socket.poll(BUSY_MS if self._answers else TURN_MS):
                    self._read()
                self._write()
        except BaseException as e:  # noqa: BLE001  (the publisher looks at it and ends the process)
            self.failed = e
            _log.error("replay died: %s", e)
        finally:
            self._socket.close(linger=0)

    def _bind_again(self) -> None:
        for address in self._guarded:
            self._socket.unbind(address)
        deadline = time.monotonic() + 2.0
        for address in self._guarded:
            while True:
                try:
                    self._socket.bind(address)
                except zmq.ZMQError as e:  # noqa: PERF203  (the port is let go of a moment later)
                    if time.monotonic() > deadline:
                        raise PublishError(f"cannot replay on {address} again: {e.strerror}") from e
                    time.sleep(0.005)
                else:
                    break

    def _read(self) -> None:
        for _ in range(MAX_CLIENTS):  # a flood of requests must not keep us from answering
            try:
                client, *request = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if client in self._answers or len(self._answers) >= MAX_CLIENTS:
                continue  # one answer at a time; who asked too much, or came to a full house, asks again
            words = self._asked(request)
            if isinstance(words, str):
                self.n_refused += 1
                frames = deque([[b"error", msgpack.packb({"message": words})]])
                self._answers[client] = _Answer(frames, time.monotonic())
            else:
                self._answers[client] = self._answer(client, *words)

    @staticmethod
    def _asked(request: list[bytes]) -> tuple[int, int] | str:
        """First number and count, or what is wrong."""
        if len(request) != 2 or request[0] != PROTOCOL:
            return f"ask with two frames, {PROTOCOL.decode()!r} and a msgpack map of first and n"
        try:
            body = msgpack.unpackb(request[1], raw=False, strict_map_key=True)
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
            return "the second frame is not a msgpack map"
        first, n = (body.get("first"), body.get("n", MAX_N)) if isinstance(body, dict) else (None, None)
        if type(first) is not int or type(n) is not int or not 0 <= first < 1 << 63 or not 1 <= n < 1 << 31:
            return "first is a journal_seq from 0 on and n a count from 1 on"
        return first, min(n, MAX_N)

    def _answer(self, client: bytes, first: int, n: int) -> _Answer:
        if client not in self._readers:
            while len(self._readers) >= MAX_CLIENTS:
                self._readers.pop(next(iter(self._readers)))
            self._readers[client] = Reader(self._snapshot)
        page = self._readers[client].page(first, n, MAX_BYTES)
        frames = deque([b"record", struct.pack("<Q", e.seq), *e.frames] for e in page.entries)
        body = {
            "next": page.next_seq, "missing": [list(m) for m in page.missing], "first_seq": page.first_seq,
            "end_seq": page.end_seq, "id": self._snapshot().id,
        }  # fmt: skip
        frames.append([b"end", msgpack.packb(body)])
        return _Answer(frames, time.monotonic())

    def _write(self) -> None:
        for client in list(self._answers):
            answer = self._answers[client]
            for _ in range(BURST):
                if not answer.frames:
                    break
                try:
                    self._socket.send_multipart([client, *answer.frames[0]], zmq.NOBLOCK)
                except zmq.Again:
                    break
                except zmq.ZMQError as e:
                    if e.errno != zmq.EHOSTUNREACH:
                        raise
                    answer.frames.clear()  # gone
                    self._readers.pop(client, None)
                    break
                self.n_records += answer.frames.popleft()[0] == b"record"
                answer.moved_at = time.monotonic()
            if not answer.frames:
                del self._answers[client]
            elif time.monotonic() > answer.moved_at + PATIENCE_S:
                _log.warning("a client that asked for a replay took nothing for %.0f s: dropped", PATIENCE_S)
                del self._answers[client]
