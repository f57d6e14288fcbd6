"""When the daemon does not let us in: says so, and tries again. ZeroMQ itself keeps silent, and gives up for ever."""

from __future__ import annotations

import contextlib
import logging
import math
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

__all__ = ["HandshakeWatch"]

_log = logging.getLogger(__name__)

FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
SAY_EVERY_S = 30.0
TRY_AGAIN_S = 1.0


class HandshakeWatch:
    """Watches one socket that is about to connect; our key may be put on the daemon's list later.

    Parameters
    ----------
    socket : zmq.Socket
    endpoint : str
        For messages.
    with_keys : bool
        Whether the socket offers keys.
    """

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str, *, with_keys: bool) -> None:
        self.n_failed = 0
        """Handshakes that the other side ended."""
        self._socket, self._endpoint, self._with_keys = socket, endpoint, with_keys
        self._monitor: zmq.Socket[bytes] | None = socket.get_monitor_socket(FAILED)
        self._said_at = -SAY_EVERY_S
        self._again_at = math.inf
        self._poller = zmq.Poller()
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def poll(self, timeout_ms: int) -> bool:
        """Wait for a message; log what fails meanwhile. False after ``timeout_ms``."""
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            until = min(deadline, self._again_at)
            ready = dict(self._poller.poll(max(0, round(1000 * (until - time.monotonic())))))
            if self._monitor is not None and self._monitor in ready:
                self._see(self._monitor)
            if self._socket in ready:
                return True
            if time.monotonic() >= self._again_at:
                self._try_again()
            if time.monotonic() >= deadline:
                return False

    def close(self) -> None:
        """Stop watching, before the socket is closed; may be called twice."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close()
            self._monitor = None

    def _see(self, monitor: zmq.Socket[bytes]) -> None:
        recv_monitor_message(monitor, zmq.NOBLOCK)
        self.n_failed += 1
        self._again_at = min(self._again_at, time.monotonic() + TRY_AGAIN_S)
        if time.monotonic() < self._said_at + SAY_EVERY_S:
            return
        self._said_at = time.monotonic()
        why = (
            "the server key is not the daemon's, our key is not on its list, or it asks for no keys"
            if self._with_keys
            else "it asks for keys: give --server-key and --client-key"
        )
        _log.warning("%s does not let us in: %s", self._endpoint, why)

    def _try_again(self) -> None:
        self._again_at = math.inf
        with contextlib.suppress(zmq.ZMQError):  # refused: then libzmq has forgotten it already
            self._socket.disconnect(self._endpoint)
        self._socket.connect(self._endpoint)
