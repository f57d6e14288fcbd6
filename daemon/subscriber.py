"""The other end: messages as they come, and an honest count of those that did not.

Numbers count per topic within one publisher. A jump within a topic is loss; so is what a heartbeat says was sent and
never came (a lost tail). The first message of a topic only sets its start: what went before was not for us. A number
seen before is a repeat for a late joiner, and passed over.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import zmq

from daemon.curve import ClientKeys
from daemon.handshake import HandshakeWatch
from daemon.wire import Message, decode
from models.errors import UsageError, WireError

__all__ = ["LossCounter", "Subscriber"]

_log = logging.getLogger(__name__)

HEARTBEAT = "heartbeat/"
MAX_MESSAGE = 64 << 20


@dataclass(slots=True)
class _Heard:
    """What is known of one publisher."""

    last: dict[str, int] = field(default_factory=dict)
    """Last number accounted for, by topic: heard, or known to be lost or before our time."""
    n_heartbeats: int = 0


@dataclass(slots=True)
class LossCounter:
    """Accounts for sequence numbers; needs no socket.

    Parameters
    ----------
    topics : tuple of str
        Prefixes that are subscribed to; what lies outside is never missed.
    """

    topics: tuple[str, ...] = ("",)
    n_heard: int = 0
    n_repeated: int = 0
    n_restarts: int = 0
    """Times another publisher was heard at the same place."""
    lost: Counter[str] = field(default_factory=Counter)
    """Messages lost, by topic."""
    _publisher: str = ""
    _heard: _Heard = field(default_factory=_Heard)

    @property
    def n_lost(self) -> int:
        """Messages lost, over all topics."""
        return self.lost.total()

    def count(self, message: Message, sequence: int) -> bool:
        """Account for one message; False if it is a repeat."""
        publisher = message.body["publisher"]
        if publisher != self._publisher:
            self.n_restarts += bool(self._publisher)
            self._publisher, self._heard = publisher, _Heard()
        last = self._heard.last.get(message.topic, -1 if self._heard.n_heartbeats >= 2 else None)
        if last is not None and sequence <= last:
            self.n_repeated += 1
            return False
        if last is not None:
            self._miss(message.topic, sequence - last - 1)
        self._heard.last[message.topic] = sequence
        self.n_heard += 1
        if message.topic == HEARTBEAT:
            self._tails(message.body["high_water"])
        return True

    def _tails(self, high_water: Mapping[str, int]) -> None:
        """Compare with what the publisher says it sent.

        Of a topic never heard, the second heartbeat says what was before our time: subscriptions reach the publisher
        one after the other, so at the first heartbeat that topic's may not have been in force.
        """
        heard = self._heard
        heard.n_heartbeats += 1
        for topic, high in high_water.items():
            if not topic.startswith(self.topics) or topic == HEARTBEAT:
                continue
            last = heard.last.get(topic, -1 if heard.n_heartbeats > 2 else None)
            if last is not None:
                self._miss(topic, high - last)
            if last is not None or heard.n_heartbeats == 2:
                heard.last[topic] = max(high, -1 if last is None else last)

    def _miss(self, topic: str, n: int) -> None:
        if n > 0:
            self.lost[topic] += n

    def found(self, topic: str) -> None:
        """A message that was lost came by replay."""
        if self.lost[topic] > 0:
            self.lost[topic] -= 1


class Subscriber:
    """One ZeroMQ SUB socket connected to one endpoint; used by one thread.

    Parameters
    ----------
    endpoint : str
        Of the publisher; it may start later, or again.
    topics : sequence of str
        Prefixes of topics, e.g. ``signature/ch0/``; empty: all.
    hwm : int
        Messages kept here while the caller is busy.
    keys : ClientKeys, optional
        For a daemon that asks for them.

    Raises
    ------
    UsageError
        If ``endpoint`` is not one that ZeroMQ can connect to.
    """

    def __init__(
        self, endpoint: str, topics: Sequence[str] = (), *, hwm: int = 10_000, keys: ClientKeys | None = None
    ) -> None:
        self.losses = LossCounter(tuple(topics) or ("",))
        self.n_malformed = 0
        """Messages that do not keep to the contract."""
        self.frames: list[bytes] = []
        """Of the message that ``receive`` gave last, as they came."""
        self.heartbeat: Message | None = None
        """The last one."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, hwm)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        if keys is not None:
            keys.arm(self._socket)
        self._handshakes = HandshakeWatch(self._socket, endpoint, with_keys=keys is not None)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as e:
            self.close()
            raise UsageError(f"cannot listen to {endpoint!r}: {e.strerror}; e.g. tcp://127.0.0.1:5565") from e
        for prefix in (*self.losses.topics, HEARTBEAT):  # the heartbeat last: then the others are in force with it
            self._socket.subscribe(prefix.encode())

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Message]:
        """Messages for ever, as they come."""
        while True:
            if (message := self.receive(60.0)) is not None:
                yield message

    def receive(self, timeout_s: float, *, stop_at_heartbeat: bool = False) -> Message | None:
        """Next message of the topics asked for; None if there is none within ``timeout_s``.

        With ``stop_at_heartbeat`` also None when a heartbeat came that was not asked for.
        """
        deadline = time.monotonic() + timeout_s
        while self._handshakes.poll(max(0, round(1000 * (deadline - time.monotonic())))):
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            try:
                message, sequence = decode(frames)
            except WireError as e:
                self.n_malformed += 1
                _log.warning("message passed over: %s", e)
                continue
            new = self.losses.count(message, sequence)
            if new and message.topic == HEARTBEAT:
                self.heartbeat = message
            if new and message.topic.startswith(self.losses.topics):
                self.frames = frames
                return message
            if new and stop_at_heartbeat and message.topic == HEARTBEAT:
                return None
        return None

    def close(self) -> None:
        """Let go of the socket; may be called twice."""
        self._handshakes.close()
        self._socket.close()
        self._context.term()
