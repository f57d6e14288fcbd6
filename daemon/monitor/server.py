"""A web server for one page, that nobody can use against the daemon: one thread, few connections, each for seconds.

The server of prometheus_client (and of the standard library) gives each connection a thread and no deadline: a hundred
slow clients are a hundred threads beside the sound. Here all connections are served by one thread that never waits for
any of them; who exceeds the number waits in the kernel, and who is slow is cut off.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from daemon.monitor.address import loopback
from daemon.monitor.metrics import CONTENT_TYPE, text_of
from daemon.say_once import SayOnce
from models.errors import PublishError

__all__ = ["MetricsServer"]

_LOGGER = logging.getLogger(__name__)

MAX_CONNECTIONS = 8
DEADLINE_S = 5.0
"""From the connection to the last byte of the answer."""
MAX_REQUEST = 8192
RENDER_S = 0.25
"""A page so young is given again: a flood of requests costs the daemon four looks a second."""
TURN_S = 0.5


@dataclass(slots=True)
class _Peer:
    """One connection."""

    deadline_s: float
    request: bytearray = field(default_factory=bytearray)
    answer: memoryview | None = None


class MetricsServer:
    """Serves ``/metrics`` and ``/status`` from a thread of its own until it is closed.

    Parameters
    ----------
    listen : str
        Loopback address and port.
    look : callable
        Gives the snapshot; called in the server's thread.

    Raises
    ------
    ConfigError
        If the address is not of the loopback.
    PublishError
        If it cannot be bound.
    """

    def __init__(self, listen: str, look: Callable[[], dict[str, Any]]) -> None:
        host, port = loopback(listen)
        v6 = ipaddress.ip_address(host).version == 6
        self._look, self._say = look, SayOnce()
        self._pages: dict[str, tuple[float, str, bytes]] = {}
        self._peers: dict[socket.socket, _Peer] = {}
        self._closing = threading.Event()
        self._full = False
        try:
            self._listener = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
        except OSError as e:
            raise PublishError(f"metrics.listen = {listen!r}: {e.strerror}") from e
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((host, port))
            self._listener.listen(128)
        except OSError as e:
            self._listener.close()
            raise PublishError(
                f"metrics.listen = {listen!r} cannot be bound: {e.strerror}; give another port, or '' for none"
            ) from e
        self._listener.setblocking(False)
        self._wake_r, self._wake_w = socket.socketpair()
        bound = self._listener.getsockname()[1]
        self.url = f"http://[{host}]:{bound}/metrics" if v6 else f"http://{host}:{bound}/metrics"
        """Where the metrics are."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cut off who is there, end the thread; may be called twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake_w.send(b"!")
        self._thread.join(DEADLINE_S)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                for key, _ in self._selector.select(TURN_S):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._peers:
                        self._guarded(key.fileobj)
                self._cut_off()
        except Exception:
            # metrics are not worth the daemon: it goes on without, and whoever scrapes sees that
            _LOGGER.exception("the metrics' server died; the daemon goes on without it")
        finally:
            for peer in list(self._peers):
                self._drop(peer)
            self._selector.close()
            for s in (self._listener, self._wake_r, self._wake_w):
                s.close()

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as e:  # no file is left to open, or the peer is gone already
            self._warn(f"metrics: a connection was not taken: {e.strerror}")
            self._closing.wait(0.05)
            return
        peer.setblocking(False)
        self._peers[peer] = _Peer(time.monotonic() + DEADLINE_S)
        self._selector.register(peer, selectors.EVENT_READ)
        if len(self._peers) >= MAX_CONNECTIONS:
            self._selector.unregister(self._listener)
            self._full = True

    def _guarded(self, peer: socket.socket) -> None:
        """Go on with one connection; what goes wrong there ends that one."""
        try:
            done = self._go_on(peer, self._peers[peer])
        except BlockingIOError:
            return
        except OSError:
            done = True  # the peer hung up: its business
        except Exception as e:  # noqa: BLE001  (a page that cannot be made must not end the others)
            self._warn(f"metrics cannot be told: {type(e).__name__}: {e}")
            done = True
        if done:
            self._drop(peer)

    def _go_on(self, peer: socket.socket, at: _Peer) -> bool:
        if at.answer is None:
            data = peer.recv(MAX_REQUEST)
            if not data:
                return True
            at.request += data
            if b"\n\r\n" not in at.request and b"\n\n" not in at.request:
                if len(at.request) < MAX_REQUEST:
                    return False
                at.answer = memoryview(_answer("431 Request Header Fields Too Large", b"too much\n"))
            else:
                at.answer = memoryview(self._answer_to(bytes(at.request)))
            self._selector.modify(peer, selectors.EVENT_WRITE)
        at.answer = at.answer[peer.send(at.answer) :]
        if at.answer:
            return False
        with contextlib.suppress(OSError):  # hung up before us
            peer.shutdown(socket.SHUT_WR)
            peer.recv(MAX_REQUEST)  # unread bytes would turn our close into a reset that eats the answer
        return True

    def _answer_to(self, request: bytes) -> bytes:
        words = request.split(b"\n", 1)[0].split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/"):
            return _answer("400 Bad Request", b"this is the metrics' page of tonald\n")
        method, path = words[0], words[1].split(b"?", 1)[0]
        if method not in (b"GET", b"HEAD"):
            return _answer("405 Method Not Allowed", b"only GET\n", extra="Allow: GET, HEAD\r\n")
        if path not in (b"/metrics", b"/status"):
            return _answer("404 Not Found", b"there are /metrics and /status\n")
        kind, body = self._page(path.decode("ascii"))
        return _answer("200 OK", body, kind=kind, head=method == b"HEAD")

    def _page(self, path: str) -> tuple[str, bytes]:
        made, kind, body = self._pages.get(path, (-RENDER_S, "", b""))
        if not body or time.monotonic() - made >= RENDER_S:
            told = self._look()
            kind, text = ("application/json", json.dumps(told)) if path == "/status" else (CONTENT_TYPE, text_of(told))
            body = text.encode()
            self._pages[path] = (time.monotonic(), kind, body)
        return kind, body

    def _cut_off(self) -> None:
        now = time.monotonic()
        for peer in [p for p, at in self._peers.items() if now >= at.deadline_s]:
            self._drop(peer)

    def _drop(self, peer: socket.socket) -> None:
        self._selector.unregister(peer)
        del self._peers[peer]
        peer.close()
        if self._full:
            self._full = False
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _warn(self, line: str) -> None:
        if (said := self._say.passes(line, time.monotonic())) is not None:
            _LOGGER.warning("%s", said)


def _answer(status: str, body: bytes, *, kind: str = "text/plain", extra: str = "", head: bool = False) -> bytes:
    top = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}Connection: close\r\n\r\n"
    )
    return top.encode("ascii") + (b"" if head else body)
