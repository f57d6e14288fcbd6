"""Who is let in: the ZAP handler (ZeroMQ RFC 27) of the publisher's context, on a thread of its own.

libzmq asks it over an inproc socket for every client that has proved that it owns its key. It answers 200 for a key on
the list and 400 for anything else. All that it guards has ``ZAP_ENFORCE_DOMAIN``: where there is no handler, or none
that answers, nobody is let in. Nothing in it can wait: a ROUTER socket, never a REP, read and written without blocking.
"""

from __future__ import annotations

import logging
import threading
import time

import zmq

from daemon.allow_list import AllowList
from daemon.key_files import PublicKey

__all__ = ["DOMAIN", "Gatekeeper"]

_log = logging.getLogger(__name__)

DOMAIN = b"tonald"
ADDRESS = "inproc://zeromq.zap.01"
VERSION = b"1.0"
TURN_MS = 100
LOG_EVERY_S = 10.0
"""One line at most; what came between is counted in the next."""


class Gatekeeper:
    """Answers for one context.

    Parameters
    ----------
    context : zmq.Context
    allowed : AllowList
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: AllowList) -> None:
        self.allowed = allowed
        """In force; may be replaced at any time by any thread."""
        self.failed: BaseException | None = None
        """What ended the thread before its time; from then on nobody is let in."""
        self.n_admitted = self.n_refused = 0
        self._socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ADDRESS)
        self._stop = threading.Event()
        self._said_at = -LOG_EVERY_S
        self._n_unsaid = 0
        self._thread = threading.Thread(target=self._run, name="gatekeeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and let go of the socket; may be called twice."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._socket.poll(TURN_MS):
                    self._answer(self._socket.recv_multipart(zmq.NOBLOCK))
        except BaseException as e:  # noqa: BLE001  (the publisher looks at it and ends the process)
            self.failed = e
            _log.error("the gatekeeper died, nobody is let in any more: %s", e)
        finally:
            self._socket.close()

    def _answer(self, frames: list[bytes]) -> None:
        if len(frames) < 4 or frames[2] != VERSION:
            _log.error("a question of %d frames that is not ZAP %s: not answered", len(frames), VERSION.decode())
            return
        client = self._judge(frames[4:])
        code, text, user = (b"400", b"not allowed", b"") if client is None else (b"200", b"OK", client.name.encode())
        self._socket.send_multipart([*frames[:4], code, text, user, b""], zmq.NOBLOCK)

    def _judge(self, question: list[bytes]) -> PublicKey | None:
        """``[domain, address, identity, mechanism, key]``: the client, if it may come in."""
        if len(question) != 5 or question[0] != DOMAIN or question[3] != b"CURVE":
            self.n_refused += 1
            return None
        key = question[4]
        client = self.allowed.get(key)
        if client is not None:
            self.n_admitted += 1
            _log.info("client %s is let in", client)
            return client
        self.n_refused += 1
        self._say_refused(question[1].decode("ascii", "replace"), PublicKey("unknown", key))
        return None

    def _say_refused(self, address: str, key: PublicKey) -> None:
        now = time.monotonic()
        if now < self._said_at + LOG_EVERY_S:
            self._n_unsaid += 1
            return
        more = f", and {self._n_unsaid} more since the last such line" if self._n_unsaid else ""
        _log.warning("refused a client from %s: its key %s is not on the list%s", address, key.fingerprint, more)
        self._said_at, self._n_unsaid = now, 0
