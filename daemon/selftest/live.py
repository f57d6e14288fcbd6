"""The self-test in the running daemon: known signatures through a chain of their own, by the same engine and publisher.

::

    'tonald selftest --live' ─ request ─► thread: makes the sound ─► processing thread: a piece a turn ─► publisher

The real channels go on beside it and share nothing with it but the engine and the sockets: its records have channel
``selftest`` and say ``test: true``. It rests while the machine does not keep up.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from daemon.compose import Composition
from daemon.config import Config
from daemon.frames import Event
from daemon.pipeline import Pipeline
from daemon.records import Recorder
from daemon.requests import Requests
from daemon.selftest.signal import injections
from daemon.selftest.source import SOURCE, events
from daemon.wire import Identity, Message
from models.bundle import Bundle
from models.errors import InputError, TonaldError
from models.features import FeatureSpec

__all__ = ["CHANNEL", "FS", "SECONDS", "LiveSelfTest", "requests_of"]

_LOG = logging.getLogger(__name__)

CHANNEL, FS, SECONDS = "selftest", 8000, 20.0
LOOK_S = 0.5


def requests_of(config: Config) -> Path:
    """Where it is asked for."""
    return Path(config.state_dir) / "selftest"


class LiveSelfTest:
    """Waits for requests; ``turn`` is called by the processing thread.

    Parameters
    ----------
    root : Path
        As `requests_of` says.
    bundle : Bundle
    spec : FeatureSpec

    Raises
    ------
    InputError
        If the folder cannot be made.
    """

    def __init__(self, root: Path, bundle: Bundle, spec: FeatureSpec) -> None:
        self._bundle, self._spec = bundle, spec
        try:
            self._requests = Requests(root)
        except OSError as e:
            raise InputError(f"{root}: cannot be made: {e.strerror or e}; see state_dir") from e
        self._over = threading.Event()
        self._ready: deque[list[Event]] = deque(maxlen=1)
        self._busy = False
        self._left: deque[Event] = deque()
        self._chain: tuple[Composition, Pipeline, Recorder] | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="selftest", daemon=True)

    def start(self) -> None:
        """Begin to look for requests."""
        self._thread.start()

    def use(self, bundle: Bundle, spec: FeatureSpec) -> None:
        """Another bundle is in force: sound made for the one before is not put in."""
        self._bundle, self._spec = bundle, spec
        if self._ready:
            _LOG.warning("self-test: given up, another bundle came into force")
            self._ready.clear()
            self._end()

    @classmethod
    def of(cls, config: Config, bundle: Bundle, spec: FeatureSpec) -> LiveSelfTest | None:
        """As the settings say; None: it is off."""
        return cls(requests_of(config), bundle, spec) if config.selftest.live else None

    def turn(self, stages: Composition, identity: Identity) -> Iterator[Message]:
        """Messages of the next piece of a test; none if there is none under way.

        Raises
        ------
        BaseException
            What ended the thread, if it did not end well.
        """
        if self._failure is not None:
            raise self._failure
        if not self._left:
            if not self._ready:
                return
            self._left.extend(self._ready.popleft())
            recorder = Recorder(dataclasses.replace(identity, test=True), self._spec, self._bundle.labels)
            self._chain = stages, stages.pipeline(), recorder
            _LOG.info("self-test: known signatures go in on channel %s, marked test", CHANNEL)
        assert self._chain is not None
        made_for, pipeline, recorder = self._chain
        if made_for is not stages:
            _LOG.warning("self-test: given up, other settings came into force")
            self._end()
            return
        for record in pipeline.process(self._left.popleft()):
            yield from recorder.process(record)
        if not self._left:
            _LOG.info("self-test: all is in; whoever asked for it judges")
            self._end()

    def close(self) -> None:
        """End the thread; may be called twice."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _end(self) -> None:
        self._left.clear()
        self._chain, self._busy = None, False

    def _run(self) -> None:
        try:
            while not self._over.wait(LOOK_S):
                if (found := self._requests.take()) is not None:
                    self._requests.answer(found[0], self._prepare())
        except BaseException as e:  # noqa: BLE001  (raised in the processing thread, see turn)
            self._failure = e

    def _prepare(self) -> str:
        if self._busy:
            return "busy: a self-test is under way"
        try:
            put_in = injections(self._bundle, self._spec, FS, SECONDS)
        except TonaldError as e:
            return f"refused: {e}"
        self._busy = True
        self._ready.append(list(events(put_in, FS, (CHANNEL,))))
        return f"started: {len(put_in)} pieces of {SECONDS:g} s on channel {CHANNEL} of source {SOURCE}"
