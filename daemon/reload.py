"""SIGHUP: what is to serve next is built beside what serves, and exchanged between two windows.

::

    supervisor ─ ask() ─► thread: settings, bundle, engine, golden test, stages ─ ready() ─► processing thread
                          ▲ closes what served ◄──────── taken() or refuse() ─────────────────────┘

The source is read and windows are published all the while. Whatever is wrong with the new settings or bundle is logged,
kept in ``problem``, and what served goes on. Requests that come while one is under way are one request.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from typing import TypeAlias

from daemon.config import Config
from daemon.in_force import InForce
from models.errors import ConfigError, TonaldError

__all__ = ["RELOADED", "Reloader", "unlike"]

_LOGGER = logging.getLogger(__name__)

RELOADED = (
    "bundle", "bundle_key", "hydrophones", "hydrophone", "engine", "extract", "explanation", "contacts", "demon",
    "checks", "site", "log", "publish.masks", "publish.explain", "publish.spectrogram",
)  # fmt: skip
"""Keys, and tables with all their keys, that come into force without a restart."""


def unlike(old: Config, new: Config) -> list[str]:
    """Keys that differ and need a restart."""
    names: list[str] = []
    for f in dataclasses.fields(Config):
        a, b = getattr(old, f.name), getattr(new, f.name)
        if a == b or f.name in RELOADED:
            continue
        inner = [g.name for g in dataclasses.fields(a)] if dataclasses.is_dataclass(a) else []
        names += [f"{f.name}.{g}" for g in inner if getattr(a, g) != getattr(b, g)] if inner else [f.name]
    return [n for n in names if n not in RELOADED]


Build: TypeAlias = Callable[[Config, Callable[[str], None] | None, InForce | None], InForce]


class Reloader:
    """Builds on request.

    Parameters
    ----------
    in_force : callable
        What serves now.
    build : callable
        As `InForce.open`.
    """

    def __init__(self, in_force: Callable[[], InForce], build: Build = InForce.open) -> None:
        self._in_force, self._build = in_force, build
        self.problem = ""
        """Why the last request was refused; empty if it was not."""
        self.n_done = self.n_refused = 0
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        # shared, under _changed:
        self._changed = threading.Condition()
        self._asked: tuple[Callable[[], Config], Callable[[str], None] | None] | None = None
        self._building = self._closing = False
        self._ready: InForce | None = None
        self._refusal: TonaldError | None = None

    def ask(self, load: Callable[[], Config], progress: Callable[[str], None] | None = None) -> None:
        """Build what ``load`` says, soon; ``load`` is called in the thread, and may raise what `Config.load` does."""
        with self._changed:
            self._asked = load, progress
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify_all()

    @property
    def busy(self) -> bool:
        """A request is not through."""
        with self._changed:
            return self._building or self._asked is not None

    def ready(self) -> InForce | None:
        """For the processing thread: what waits to be exchanged."""
        return self._ready  # one reference, read at each turn: no lock

    def taken(self) -> None:
        """For the processing thread: the exchange is made."""
        self._answer(None)

    def refuse(self, why: TonaldError) -> None:
        """For the processing thread: the exchange cannot be made, what served goes on."""
        self._answer(why)

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread; what it holds that nobody took is closed."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                _LOGGER.error("a reload was under way and did not end within %.0f s", timeout_s)

    def _answer(self, why: TonaldError | None) -> None:
        with self._changed:
            self._ready, self._refusal = None, why
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._building = False
                self._changed.wait_for(lambda: self._asked is not None or self._closing)
                if self._closing or self._asked is None:
                    return
                (load, progress), self._asked, self._building = self._asked, None, True
            try:
                self._reload(load, progress)
                self.problem = ""
            except (TonaldError, OSError) as e:
                self._failed(str(e))
            except Exception as e:  # what serves goes on, whatever a bundle or an engine's library does
                _LOGGER.exception("reload")
                self._failed(f"{type(e).__name__}: {e}")

    def _failed(self, why: str) -> None:
        self.problem = why
        self.n_refused += 1
        _LOGGER.error("not reloaded: %s; what served before goes on", why)

    def _reload(self, load: Callable[[], Config], progress: Callable[[str], None] | None) -> None:
        old, config = self._in_force(), load()
        if names := unlike(old.config, config):
            raise ConfigError(
                f"{', '.join(names)} changed: that needs a restart, and nothing of the file comes into force without it"
            )
        new = self._build(config, progress, old)
        if new is old:
            _LOGGER.info("reload: settings, bundle and site are as they were")
            self.n_done += 1
            return
        try:
            _same_windows(old, new)
            taken = self._exchanged(new)
        except BaseException:
            _close(new, old)
            raise
        if taken:
            self.n_done += 1
            _close(old, new)
        else:
            _close(new, old)

    def _exchanged(self, new: InForce) -> bool:
        """Let the processing thread take it; False: the daemon ends first."""
        with self._changed:
            self._ready, self._refusal = new, None
            self._changed.wait_for(lambda: self._ready is None or self._closing)
            if self.ready() is not None:
                self._ready = None
                return False
            if self._refusal is not None:
                raise self._refusal
        return True


def _close(gone: InForce, serves: InForce) -> None:
    if gone.engine is not serves.engine:
        gone.engine.close()


def _same_windows(old: InForce, new: InForce) -> None:
    """Other windows are another grid: records would count slots of two kinds.

    Raises
    ------
    ConfigError
        If they differ.
    """
    was, is_ = ((s.n_samples(s.fs_model) / s.fs_model, s.step_s) for s in (old.spec, new.spec))
    if was != is_:
        raise ConfigError(
            f"bundle {new.bundle.id} looks at {is_[0]:g} s every {is_[1]:g} s, the one that serves at {was[0]:g} s "
            f"every {was[1]:g} s: that needs a restart"
        )
