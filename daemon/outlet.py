"""The ZeroMQ side of the publisher: one XPUB socket, used by the one thread that made it.

XPUB shows who subscribes, so that a late joiner is given the last info/ and status/, and it can refuse to lose a
message: with NODROP a send fails, for all, while one subscriber has no room.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

import zmq

from daemon.allow_list import AllowList
from daemon.curve import CurveServer, bind_all
from daemon.endpoints import Endpoint
from daemon.gatekeeper import Gatekeeper
from models.errors import PublishError

__all__ = ["Outlet"]

_log = logging.getLogger(__name__)

RETRY_MS = 5
MAX_SUBSCRIPTION = 1 << 13
"""Bytes; libzmq walks a long one by recursion, and a megabyte of it overflows the stack."""
MAX_PREFIX = 255
KEPT = ("info/", "status/")
REBIND_S = 2.0
"""libzmq lets go of a port a moment after it is asked to."""


class Outlet:
    """Sends frames, sees subscriptions, keeps the last message of what a late joiner must know.

    Parameters
    ----------
    endpoints : sequence of Endpoint
    hwm : int
        Messages kept for one slow subscriber.
    stall_timeout_s : float
        How long a stuck subscriber may hold up ``send_all``.
    curve : CurveServer, optional
        Keys; needed by endpoints that are not local.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], hwm: int, stall_timeout_s: float, curve: CurveServer | None = None
    ) -> None:
        self.n_stalls = 0
        """Times a stuck subscriber was left behind by ``send_all``."""
        self.n_subscriptions = 0
        self._wanted, self._stall_timeout_s = tuple(endpoints), stall_timeout_s
        self._curve = curve
        self._guarded: list[str] = []
        self._kept: dict[str, list[bytes]] = {}
        self._new: set[bytes] = set()
        self.context = self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.XPUB)
        for option, value in (
            (zmq.SNDHWM, hwm),
            (zmq.XPUB_VERBOSER, 1),  # each subscriber's coming and going is seen, not only the first per topic
            (zmq.MAXMSGSIZE, MAX_SUBSCRIPTION),  # of what peers send; unset, one peer can pin gigabytes
            (zmq.HANDSHAKE_IVL, 2000),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, 30),
            (zmq.TCP_KEEPALIVE_INTVL, 10),
            (zmq.TCP_KEEPALIVE_CNT, 3),
            (zmq.IPV6, int(any(e.is_ipv6 for e in self._wanted))),
        ):
            self._socket.setsockopt(option, value)
        self._gate = None if curve is None else Gatekeeper(self._context, curve.allowed)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)

    def bind(self) -> tuple[str, ...]:
        """Bind all endpoints; return them with their ports filled in.

        Raises
        ------
        PublishError
            If one cannot be bound; names it and says what to do.
        """
        bound = bind_all(self._socket, self._wanted, self._curve)
        self._guarded = [bound[e] for e in self._wanted if self._curve is not None and self._curve.guards(e)]
        return tuple(bound[e] for e in self._wanted)

    def admit(self, allowed: AllowList) -> None:
        """Put another list in force; who is on it no more is cut off at once.

        ZeroMQ cannot end the connection of one client: all who came with a key are cut off, and who may comes back by
        itself within a second.

        Raises
        ------
        PublishError
            If an endpoint cannot be bound again.
        """
        if self._gate is None:
            return
        before, self._gate.allowed = self._gate.allowed, allowed
        if before.keys() <= allowed.keys():
            return
        self._socket.setsockopt(zmq.LINGER, 0)  # what waits for those who leave goes with them
        for address in self._guarded:
            self._socket.unbind(address)
        for address in self._guarded:
            self._bind_again(address)
        _log.info(
            "keys were taken off the list: %d; who came with a key is asked again", len(before.keys() - allowed.keys())
        )

    def _bind_again(self, address: str) -> None:
        deadline = time.monotonic() + REBIND_S
        while True:
            try:
                self._socket.bind(address)
            except zmq.ZMQError as e:  # noqa: PERF203
                if time.monotonic() > deadline:
                    raise PublishError(f"cannot publish on {address} again: {e.strerror}") from e
                time.sleep(RETRY_MS / 1000)
            else:
                return

    def wake_on(self, fd: int) -> None:
        """Let ``sleep`` also end when ``fd`` can be read."""
        self._poller.register(fd, zmq.POLLIN)

    def sleep(self, timeout_s: float) -> None:
        """Wait for subscriptions, the wake-up, or the time."""
        self._poller.poll(max(0, math.ceil(1000 * timeout_s)))

    def keep(self, topic: str, frames: list[bytes]) -> None:
        """Remember the last message of a topic that late joiners must know."""
        if topic.startswith(KEPT):
            self._kept[topic] = frames

    def send(self, frames: list[bytes]) -> None:
        """Send to all who have room; who has none is passed over until it has."""
        self._socket.setsockopt(zmq.XPUB_NODROP, 0)
        self._socket.send_multipart(frames)

    def offer(self, frames: list[bytes]) -> bool:
        """Send to all who want it, or to none, False, if one of them has no room."""
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def send_all(self, frames: list[bytes], until: Callable[[], float], meanwhile: Callable[[], None]) -> None:
        """Send once every subscriber has room, but wait no longer than the stall timeout, nor than ``until()``.

        Parameters
        ----------
        frames : list of bytes
        until : callable
            Time of CLOCK_MONOTONIC, s, by which to give up; asked again and again.
        meanwhile : callable
            Called while waiting.
        """
        began = time.monotonic()
        while not self.offer(frames):
            now = time.monotonic()
            if now >= min(began + self._stall_timeout_s, until()):
                self.n_stalls += 1
                _log.warning("a subscriber took nothing for %.1f s: it loses messages", now - began)
                self.send(frames)
                return
            self._socket.poll(RETRY_MS)
            meanwhile()

    def subscriptions(self) -> bool:
        """Note who came and went since the last call; True if someone came."""
        if self._gate is not None and self._gate.failed is not None:
            raise PublishError(f"the gatekeeper died: {self._gate.failed}") from self._gate.failed
        came = False
        for _ in range(1000):  # a flood of them must not keep us from sending
            if not self._socket.poll(0):
                break
            frame = self._socket.recv(zmq.NOBLOCK)
            if frame[:1] == b"\x01":
                came = True
                self.n_subscriptions += 1
                if len(frame) <= MAX_PREFIX + 1:
                    self._new.add(frame[1:])
            elif frame[:1] == b"\x00":
                # who is malformed may take back what it never asked for
                self.n_subscriptions = max(0, self.n_subscriptions - 1)
        return came

    def news(self) -> list[list[bytes]]:
        """Messages to send again, numbers unchanged, for those who came since the last call."""
        new, self._new = tuple(self._new), set()
        return [f for topic, f in self._kept.items() if topic.encode().startswith(new)] if new else []

    def close(self, linger_s: float) -> None:
        """Let subscribers read what is on its way, for at most ``linger_s``; blocks as long."""
        self._socket.close(linger=round(1000 * linger_s))
        if self._gate is not None:
            self._gate.close()
        self._context.term()
