"""Keeps status file, metrics and the service manager's line up to date; turned by the supervising loop."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any

from daemon.monitor.rates import Rates
from daemon.monitor.server import MetricsServer
from daemon.monitor.snapshot import snapshot
from daemon.monitor.status_file import status_path, write_status
from daemon.notify import ServiceManager
from daemon.say_once import SayOnce
from daemon.service import Service

__all__ = ["Monitor"]

_LOGGER = logging.getLogger(__name__)

EVERY_S = 1.0
TELL_S = 5.0
"""Between two lines to the service manager."""


class Monitor:
    """Of one service that was started; serves metrics, if wanted, until it is closed.

    Raises
    ------
    PublishError
        If the metrics' port cannot be bound.
    """

    def __init__(self, service: Service, manager: ServiceManager | None = None) -> None:
        self._service, self._manager = service, manager
        self._path = status_path(service.config)
        self._t_started = self._due = self._tell_due = time.monotonic()
        self._rates = Rates()
        self._now_rates: dict[str, float] = {}
        self._state = "running"
        self._say = SayOnce()
        self._server: MetricsServer | None = None
        if service.config.metrics.listen:
            self._server = MetricsServer(service.config.metrics.listen, self.look)
            _LOGGER.info("metrics on %s", self._server.url)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close(failed=error is not None)

    @property
    def url(self) -> str | None:
        """Where the metrics are; None: not served."""
        return None if self._server is None else self._server.url

    def look(self) -> dict[str, Any]:
        """The snapshot, now; any thread may ask."""
        return snapshot(self._service, self._state, self._t_started, dict(self._now_rates))

    def turn(self) -> None:
        """What is due; called several times a second."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = max(self._due + EVERY_S, now)
        self._now_rates = self._rates.look(self._service, now)
        self._write()
        if self._manager is not None and now >= self._tell_due:
            self._tell_due = now + TELL_S
            self._manager.status(self.line())

    def line(self) -> str:
        """For ``systemctl status``: what goes on, and how fast."""
        r = self._now_rates
        if not r:
            return str(self._service.counts)
        words = (
            f"{r['audio_s_per_s']:.2f} s of audio/s, {r['windows_per_s']:.1f} windows/s, "
            f"{r['signatures_per_s']:.2f} signatures/s; {self._service.counts}"
        )
        waiting = [
            f"{name} {s.state}" for name, s in self._service.tally.facts().sources.items() if s.state == "waiting"
        ]
        return f"{', '.join(waiting)}; {words}" if waiting else words

    def stopping(self) -> None:
        """The end has begun: say so in the file."""
        self._state = "stopping"
        self._write()

    def close(self, *, failed: bool = False) -> None:
        """A last word into the file; no more metrics. May be called twice."""
        if self._state in ("stopped", "failed"):
            return
        service = self._service
        self._state = "failed" if failed or service.failure or service.publisher.failed else "stopped"
        self._write()
        if self._server is not None:
            self._server.close()

    def _write(self) -> None:
        """A file that cannot be written keeps nobody from listening: it is said, and tried again."""
        if self._path is None:
            return
        try:
            write_status(self._path, self.look())
        except OSError as e:
            words = f"status file {self._path}: cannot be written: {e.strerror or e}; the last one grows old"
            if (said := self._say.passes(words, time.monotonic())) is not None:
                _LOGGER.warning("%s", said)
