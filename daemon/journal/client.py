"""Asks a daemon for what was missed, page by page (docs/wire/README.md, "Replay")."""

from __future__ import annotations

import ipaddress
import re
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import msgpack
import zmq

from daemon.curve import ClientKeys
from daemon.journal.replay import PROTOCOL
from models.errors import PublishError, UsageError

__all__ = ["Answer", "ReplayClient", "reachable"]

MAX_FRAME = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One page."""

    records: tuple[tuple[int, tuple[bytes, ...]], ...]
    """``journal_seq`` and frames as published, in order."""
    next_seq: int
    """Where to go on."""
    missing: tuple[tuple[int, int], ...]
    """Ranges, both ends included, that the journal has lost."""
    first_seq: int
    """Oldest number kept."""
    end_seq: int
    """The number that comes next in the journal."""
    id: str
    """Of the journal."""


class ReplayClient:
    """One DEALER socket; used by one thread.

    Raises
    ------
    UsageError
        If ``endpoint`` is not one that ZeroMQ can connect to.
    """

    def __init__(self, endpoint: str, keys: ClientKeys | None = None) -> None:
        self.endpoint, self._keys = endpoint, keys
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._records: list[tuple[int, tuple[bytes, ...]]] = []
        try:
            self.reset()
        except zmq.ZMQError as e:
            self.close()
            raise UsageError(f"cannot ask {endpoint!r} for a replay: {e.strerror}; e.g. tcp://127.0.0.1:5566") from e

    def __enter__(self) -> ReplayClient:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        self.close()

    def page(self, first: int, n: int = 500, timeout_s: float = 5.0) -> Answer:
        """At most ``n`` records from ``first`` on.

        Raises
        ------
        PublishError
            If no answer came in time, or one that does not keep to the contract; ask again.
        """
        self.ask(first, n)
        answer = self.poll(timeout_s)
        if answer is None:
            self.reset()
            raise PublishError(f"replay from {self.endpoint}: no answer within {timeout_s:g} s")
        return answer

    def ask(self, first: int, n: int = 500) -> None:
        """Ask for a page; one at a time.

        Raises
        ------
        PublishError
            If there is nobody who would take the question.
        """
        assert self._socket is not None
        self._records = []
        try:
            self._socket.send_multipart([PROTOCOL, msgpack.packb({"first": first, "n": n})], zmq.NOBLOCK)
        except zmq.Again:
            self.reset()
            raise PublishError(f"replay from {self.endpoint}: nobody takes the question") from None

    def poll(self, timeout_s: float) -> Answer | None:
        """The answer to what was asked; None if it is not whole within ``timeout_s``: poll again, or `reset`.

        Raises
        ------
        PublishError
            If it does not keep to the contract; the socket is a new one then.
        """
        assert self._socket is not None
        deadline = time.monotonic() + timeout_s
        while self._socket.poll(max(0, round(1000 * (deadline - time.monotonic())))):
            kind, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            if kind == b"record" and len(frames) >= 2 and len(frames[0]) == 8:
                self._records.append((struct.unpack("<Q", frames[0])[0], tuple(frames[1:])))
            elif kind == b"end" and len(frames) == 1:
                return _answer(tuple(self._records), frames[0])
            else:
                self.reset()
                raise PublishError(f"replay from {self.endpoint}: an answer of another kind: {bytes(kind[:20])!r}")
        return None

    def reset(self) -> None:
        """A new socket: answers to what was asked before are not taken for answers to what comes."""
        if self._socket is not None:
            self._socket.close(linger=0)
        self._records = []
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        if self._keys is not None:
            self._keys.arm(self._socket)
        self._socket.connect(self.endpoint)

    def close(self) -> None:
        """Let go of the socket; may be called twice."""
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None
        self._context.term()


def _answer(records: tuple[tuple[int, tuple[bytes, ...]], ...], packed: bytes) -> Answer:
    try:
        body = msgpack.unpackb(packed, raw=False, strict_map_key=True)
        next_seq, first_seq, end_seq = (int(body[k]) for k in ("next", "first_seq", "end_seq"))
        missing = tuple((int(a), int(b)) for a, b in body["missing"])
        return Answer(records, next_seq, missing, first_seq, end_seq, str(body["id"]))
    except (ValueError, TypeError, KeyError, RecursionError, msgpack.UnpackException) as e:
        raise PublishError(f"replay: the end of an answer cannot be read: {e}") from e


def reachable(ours: str, offered: Sequence[str]) -> str | None:
    """Of the replay endpoints that a daemon names, the one beside the endpoint ``ours`` that we listen to.

    A daemon bound to all addresses knows not by which one it is reached; that part is taken from ``ours``.
    """
    scheme = ours.partition("://")[0]
    same = [e for e in offered if e.startswith(f"{scheme}://")]
    if scheme != "tcp":
        return next((e for e in same if e.startswith(ours)), same[0] if same else None)
    host = re.fullmatch(r"tcp://(.+):\d+", ours)
    for e in same:
        found = re.fullmatch(r"tcp://(.+):(\d+)", e)
        if host and found and (found[1] == host[1] or _is_any(found[1]) or _is_loopback(host[1])):
            return f"tcp://{host[1]}:{found[2]}"
    return None


def _is_any(host: str) -> bool:
    return host in {"0.0.0.0", "*", "[::]"}  # noqa: S104


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
