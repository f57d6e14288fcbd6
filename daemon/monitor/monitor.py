"""Keeps status file, metrics and the service manager's line up to date, from a thread of its own.

::

    starting ── listening(service) ─► running, waiting ── stopping() ─► stopping ── close() ─► stopped, failed

Once a second it looks at the daemon and writes what it saw. A disk that blocks holds up this thread and nobody else:
the file grows old, and whoever reads it says so.
"""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Any

from daemon.config import Config
from daemon.monitor.rates import Rates
from daemon.monitor.server import MetricsServer
from daemon.monitor.snapshot import Life, snapshot, starting
from daemon.monitor.status_file import status_path, write_status
from daemon.notify import ServiceManager
from daemon.say_once import SayOnce
from daemon.service import Service

__all__ = ["Monitor"]

_LOGGER = logging.getLogger(__name__)

EVERY_S = 1.0
TELL_S = 5.0
"""Between two lines to the service manager."""
LAST_WORD_S = 5.0


class Monitor:
    """Of one daemon, from before its service starts until after it ended.

    Parameters
    ----------
    config : Config
        As the daemon is started with.
    manager : ServiceManager, optional
        Told a line every few seconds.
    """

    def __init__(self, config: Config, manager: ServiceManager | None = None) -> None:
        self._config, self._manager = config, manager
        self._path = status_path(config)
        self._life = Life(time.monotonic(), time.time_ns())
        self._service: Service | None = None
        self._rates = Rates()
        self._now_rates: dict[str, float] = {}
        self._state, self._doing = "running", "opening the source"
        self._say = SayOnce()
        self._server: MetricsServer | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._thread.start()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close(error)

    @property
    def url(self) -> str | None:
        """Where the metrics are; None: not served."""
        return None if self._server is None else self._server.url

    def doing(self, words: str) -> None:
        """What the start is at; an engine may take minutes."""
        self._doing = words

    def listening(self, service: Service) -> None:
        """The service is started: from now on it is what is told of.

        Raises
        ------
        PublishError
            If the metrics' port cannot be bound.
        """
        self._service = service
        if service.config.metrics.listen:
            self._server = MetricsServer(service.config.metrics.listen, self.look)
            _LOGGER.info("metrics on %s", self._server.url)

    def look(self) -> dict[str, Any]:
        """The snapshot, now; any thread may ask."""
        if self._service is None:
            return starting(self._config, self._life, self._state, self._doing)
        failure = self._doing if self._state == "failed" else None
        return snapshot(self._service, self._state, self._life, dict(self._now_rates), failure)

    def line(self) -> str:
        """For ``systemctl status``: what goes on, and how fast."""
        service, r = self._service, self._now_rates
        if service is None:
            return f"starting: {self._doing}"
        parts = [
            f"{name} {s.state}"
            for name, s in service.tally.facts().sources.items()
            if s.state in ("waiting", "refused")
        ]
        if service.reloader.problem:
            parts.append(f"not reloaded: {service.reloader.problem}")
        if r:
            parts.append(
                f"{r['audio_s_per_s']:.2f} s of audio/s, {r['windows_per_s']:.1f} windows/s, "
                f"{r['signatures_per_s']:.2f} signatures/s"
            )
        return "; ".join([*parts, str(service.counts)])

    def stopping(self) -> None:
        """The end has begun."""
        self._state = "stopping"

    def close(self, error: BaseException | None = None) -> None:
        """A last word into the file; no more metrics. May be called twice.

        Parameters
        ----------
        error : BaseException, optional
            What the daemon ends with.
        """
        if self._over.is_set():
            return
        service = self._service
        failed = error or (service and (service.failure or service.publisher.failed))
        self._state = "failed" if failed else "stopped"
        if error is not None:
            self._doing = str(error) or type(error).__name__
        self._over.set()
        self._thread.join(LAST_WORD_S)
        if self._thread.is_alive():
            _LOGGER.warning("status file %s: the disk holds its last word up; not waited for", self._path)
        if self._server is not None:
            self._server.close()

    def _run(self) -> None:
        tell_due = time.monotonic()
        while True:
            over = self._over.is_set()
            try:
                now = time.monotonic()
                if self._service is not None:
                    self._now_rates = self._rates.look(self._service, now)
                if self._path is not None:
                    write_status(self._path, self.look())
                serving = self._service is not None and self._state == "running"
                if self._manager is not None and serving and now >= tell_due:
                    tell_due = now + TELL_S
                    self._manager.status(self.line())
            except OSError as e:  # keeps nobody from listening: it is said, and tried again
                self._warn(f"status file {self._path}: cannot be written: {e.strerror or e}; the last one grows old")
            except Exception as e:  # the daemon is worth more than word of it
                if self._warn(f"the daemon's state cannot be told: {type(e).__name__}: {e}"):
                    _LOGGER.debug("status", exc_info=True)
            if over:
                return
            self._over.wait(EVERY_S)

    def _warn(self, line: str) -> bool:
        said = self._say.passes(line, time.monotonic())
        if said is not None:
            _LOGGER.warning("%s", said)
        return said is not None
