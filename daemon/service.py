"""The running daemon: processing thread and publisher, started and stopped as one.

The processing thread reads events from the source, turns them into records and messages by nested plain calls, and
hands these to the publisher, which owns a thread and the sockets. Nothing here touches signals or the terminal: the
command, the demo or a test starts a service, looks at it, and stops it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from calibration.site import SiteCalibration
from daemon.allow_list import read_allow_list
from daemon.clock_system import Clocks, read_clocks
from daemon.config import Config
from daemon.curve import CurveServer
from daemon.forensic.ring import ForensicRing
from daemon.frames import (
    Analysed,
    AudioBlock,
    ClockUpdate,
    Contact,
    Event,
    Forensic,
    Gap,
    Health,
    Overload,
    Record,
    Signature,
    Skipped,
    Source,
    SourceState,
    StreamEnd,
    StreamStart,
)
from daemon.in_force import InForce
from daemon.journal.open import open_journal, replay_endpoints
from daemon.liveness import Progress
from daemon.monitor.tally import Tally
from daemon.open_source import open_source, paused, resume
from daemon.overload import Ladder
from daemon.publisher import Publisher
from daemon.reload import Reloader
from daemon.say_once import SayOnce
from daemon.selftest.live import LiveSelfTest
from daemon.site_refresh import SiteEstimate
from daemon.site_state import next_version, save_site, site_path
from daemon.takes.side_car import Stamp
from daemon.wire import Identity, Message
from models.engines import EngineReport
from models.errors import ConfigError, InputError, PublishError, SampleRateError

__all__ = ["Counts", "Service"]

_LOGGER = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.25
"""The loop turns at least this often, so that it can be asked to stop and seen to be alive."""


CLOSE_S = 5.0
"""Time for subscribers to read what is left when the daemon is asked to stop."""


MAX_PROBLEMS = 1000


@dataclasses.dataclass(slots=True)
class Counts:
    """What happened since the start."""

    n_streams: int = 0
    n_windows: int = 0
    n_skipped: int = 0
    n_signatures: int = 0
    n_contacts: int = 0
    n_gaps: int = 0
    lost_samples: int = 0
    audio_s: float = 0.0
    n_overloads: int = 0
    """Steps up the overload ladder."""

    def __str__(self) -> str:
        lost = f", {self.n_skipped} windows not analysed, {self.lost_samples} samples lost in {self.n_gaps} gaps"
        return (
            f"{self.audio_s:.0f} s of audio, {self.n_windows} windows analysed, {self.n_signatures} signatures, "
            f"{self.n_contacts} contacts" + (lost if self.n_skipped or self.n_gaps else "")
        )


class Service:
    """One source, one engine, one publisher.

    Parameters
    ----------
    config : Config
    on_message : callable, optional
        Called in the processing thread with each message that is published.
    clocks : callable
        Reads the clocks of the machine.
    source : Source, optional
        Instead of the one that the settings name.
    test : bool
        Whether every record says that its sound was injected.

    Raises
    ------
    TonaldError
        From ``start``, if bundle, engine, source or endpoints cannot be used.
    """

    def __init__(
        self,
        config: Config,
        on_message: Callable[[Message], None] | None = None,
        clocks: Clocks = read_clocks,
        *,
        source: Source | None = None,
        test: bool = False,
    ) -> None:
        self.config, self._clocks = config, clocks
        self._given_source, self._test = source, test
        self.counts = Counts()
        self.problems: list[str] = []
        """What was wrong with streams, one line each."""
        self.failure: BaseException | None = None
        """What ended the processing thread, if it did not end well."""
        self.finished = threading.Event()
        """The source is through, or the thread was stopped or failed."""
        self.last_turn = time.monotonic()
        """When the processing loop last turned."""
        self._on_message = on_message
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="processing", daemon=True)
        self.tally = Tally()
        """The same and more, by label: what status file and metrics are made of."""
        self._open = functools.partial(InForce.open, tally=self.tally)
        self.reloader = Reloader(lambda: self.in_force, self._open)
        self._say = SayOnce()
        self._unwell: dict[str, str] = {}
        self._ladder: Ladder | None = None
        self._state: Literal["running", "waiting", "refused"] = "running"
        self._n_retries = 0
        self._running: tuple[str, int, int] | None = None  # source, epoch and position of the stream under way

    def start(self, progress: Callable[[str], None] | None = None) -> EngineReport:
        """Open everything, prove the engine, bind the endpoints, begin. Nothing is left open if it fails.

        ``progress`` is called with one line now and then while an engine takes minutes to open.
        """
        self.source: Source = self._given_source or open_source(self.config.source, self._clocks)
        try:
            self.in_force = self._open(self.config, progress)
        except BaseException:
            self.source.close()
            raise
        try:
            self._start_publishing()
        except BaseException:
            self.source.close()
            self.in_force.engine.close()
            raise
        self._thread.start()
        return self.in_force.report

    def _start_publishing(self) -> None:
        now, c = self.in_force, self.config
        self._pipeline = now.stages.pipeline(live=self.source.live)
        identity = now.identity(dataclasses.replace(Identity.new(c.node, now.bundle.id), test=self._test))
        self._recorder = now.recorder(identity)
        self._forensic = self._open_forensic(identity)
        self._selftest = LiveSelfTest.of(c, now.bundle, now.spec)
        self.publisher = Publisher(
            identity, c.publish.endpoints, hwm=c.publish.hwm, stall_timeout_s=c.publish.stall_timeout_s,
            curve=CurveServer.of(c.publish), journal=(journal := open_journal(c)),
            replay_endpoints=replay_endpoints(c) if journal else (),
        )  # fmt: skip
        self.publisher.start()
        if self._forensic is not None:
            self._forensic.start()
        if self._selftest is not None:
            self._selftest.start()
        self.publisher.put(now.info(identity, self.publisher.endpoints), wait=True)

    def _open_forensic(self, identity: Identity) -> ForensicRing | None:
        """The ring that keeps the latest sound; None: none is wanted."""
        c = self.config
        if not c.forensic.max_mb:
            return None
        return ForensicRing(Path(c.state_dir) / "forensic", c.forensic, self._stamp(identity))

    def _stamp(self, identity: Identity) -> Stamp:
        """What stands beside raw sound that is kept from now on."""
        version, chains = importlib.metadata.version("tonald"), self.in_force.site.levels.numbers()
        return Stamp(identity.node, identity.publisher, version, identity.bundle, identity.calibration_id, chains)

    def reload(self, load: Callable[[], Config], progress: Callable[[str], None] | None = None) -> None:
        """Build what ``load`` says beside what serves, and exchange them between two windows (`daemon.reload`)."""
        self.reloader.ask(load, progress)

    def reread_keys(self) -> None:
        """Put the list of clients in force as it stands in its files now; keep the old one if it is no good."""
        if not self.config.publish.allowed_keys:
            return
        try:
            allowed = read_allow_list(Path(self.config.publish.allowed_keys))
        except ConfigError as e:
            _LOGGER.error("%s; the list as read before stays in force", e)
            return
        self.publisher.admit(allowed)
        _LOGGER.info("%d clients may listen with keys", len(allowed))

    def resume_source(self) -> None:
        """Look for a lost sound card now (`source.on_loss`)."""
        resume(self.source)

    def progress(self) -> Progress:
        """What has been done so far."""
        c = self.counts
        return Progress(
            self.last_turn, c.audio_s, c.n_windows + c.n_skipped, c.n_streams, self._running is not None,
            self.source.live, self._state, self._n_retries, paused(self.source),
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Both threads are at work."""
        return not self.finished.is_set() and self.publisher.failed is None

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the event under way, publish what is known, let subscribers read it, close everything.

        When the source is through, subscribers have the stall timeout to read the rest; asked to stop, a few seconds.
        """
        through = self.finished.is_set() and self.failure is None and self.publisher.failed is None
        self._stop.set()
        self._thread.join(timeout_s)
        stuck = self._thread.is_alive()
        if stuck:
            _LOGGER.error("the processing thread did not end within %.0f s: what it held is lost", timeout_s)
        self._close_forensic(stuck=stuck)
        if self._selftest is not None:
            self._selftest.close()
        if through:
            self.publisher.flush(2 * self.config.publish.stall_timeout_s)
        self.publisher.close(self.config.publish.stall_timeout_s if through else CLOSE_S)
        self.reloader.close()
        if not stuck:
            self.source.close()
            self.in_force.engine.close()

    def _close_forensic(self, *, stuck: bool) -> None:
        """Let the ring finish, and publish its last news."""
        if self._forensic is None:
            return
        self._forensic.close()
        if stuck or self.publisher.failed is not None:
            return
        for record in self._forensic.news():
            for message in self._recorder.process(record):
                self.publisher.put(message, wait=True)

    def raise_failure(self) -> None:
        """Raise what ended a thread, if it did not end well.

        Raises
        ------
        TonaldError
            As it came from source, engine or publisher; what is not ours is raised as it is.
        """
        if self.failure is not None:
            raise self.failure
        if self.publisher.failed is not None:
            raise PublishError(f"publisher died: {self.publisher.failed}") from self.publisher.failed

    def _run(self) -> None:
        try:
            self._await_subscriber()
            while not self._stop.is_set():
                self.last_turn = time.monotonic()
                event = self.source.read(READ_TIMEOUT_S)
                if event is not None and self._process(event):
                    break
                self._inject()
                self._exchange()
            if self._running:
                source, epoch, position = self._running
                self._process(StreamEnd(source, epoch, position, final=True))
        except BaseException as e:  # noqa: BLE001  (handed to whoever supervises; a dead thread must not pass in silence)
            self.failure = e
        finally:
            self.finished.set()

    def _await_subscriber(self) -> None:
        """Give a first subscriber the time the settings state, in turns of the loop."""
        end = time.monotonic() + self.config.publish.wait_subscriber_s
        while not self._stop.is_set() and (left := end - time.monotonic()) > 0:
            self.last_turn = time.monotonic()
            if self.publisher.wait_for_subscriber(min(left, READ_TIMEOUT_S)):
                return
        if self.config.publish.wait_subscriber_s:
            _LOGGER.info("no subscriber within %g s: going on", self.config.publish.wait_subscriber_s)

    def _process(self, event: Event) -> bool:
        """Publish what follows from an event; True if the source is through."""
        self._note(event)
        if self._forensic is not None:
            self._forensic.offer(event, wait=not self.source.live)
        estimate = None
        for record in itertools.chain(self._keep_up(event), self._pipeline.process(event), self._kept()):
            self._count(record)
            if self._forensic is not None and isinstance(record, Contact):
                self._forensic.record(record)
            if self.in_force.estimator is not None:
                estimate = self.in_force.estimator.process(record) or estimate
            self._publish(record)
            self.last_turn = time.monotonic()
        if estimate is not None:
            self._refresh_site(estimate)
        return isinstance(event, StreamEnd) and event.final

    def _publish(self, record: Record) -> None:
        for message in self._recorder.process(record):
            self.publisher.put(message, wait=not self.source.live)
            if self._on_message is not None:
                self._on_message(message)

    def _exchange(self) -> None:
        """Put in force what a reload has built, if it has: the source goes on, and so does the grid of the stream."""
        if (new := self.reloader.ready()) is None:
            return
        old, pipeline = self.in_force, new.stages.pipeline(live=self.source.live)
        try:
            left = pipeline.follow(self._pipeline, same_contacts=new.same_contacts(old))
        except (SampleRateError, ConfigError) as e:
            self.reloader.refuse(e)
            return
        for record in left:
            self._count(record)
            self._publish(record)
        new.keep_newer(old)
        identity = new.identity(self.publisher.identity)
        recorder = new.recorder(identity)
        recorder.follow(self._recorder, same_checks=new.config.checks == old.config.checks)
        self.in_force, self.config, self._pipeline, self._recorder = new, new.config, pipeline, recorder
        self.publisher.identity = identity
        if self._selftest is not None:
            self._selftest.use(new.bundle, new.spec)
        if self._forensic is not None:
            self._forensic.use(self._stamp(identity))
        self.publisher.put(new.info(identity, self.publisher.endpoints), wait=not self.source.live)
        _LOGGER.info("reloaded: %s", new.words())
        self.reloader.taken()

    def _inject(self) -> None:
        """A piece of a self-test, if one is under way and the machine keeps up: its own chain, the same engine."""
        if self._selftest is None or (self._ladder is not None and self._ladder.n):
            return
        for message in self._selftest.turn(self.in_force.stages, self.publisher.identity):
            self.publisher.put(message, wait=not self.source.live)

    def _kept(self) -> Iterator[Forensic]:
        """News of the forensic ring."""
        return iter(()) if self._forensic is None else self._forensic.news()

    def _keep_up(self, event: Event) -> Iterator[Overload]:
        """Leave out more or less of the work, by how much sound waits."""
        if (backlog := self.source.backlog()) is None or not isinstance(event, AudioBlock):
            return
        self.tally.backlog(backlog)
        if self._ladder is None:
            self._ladder = Ladder(backlog.most_s)
        before = self._ladder.n
        if self._ladder.process(backlog.waiting_s, self.counts.audio_s):
            words, up = self._ladder.words(backlog.waiting_s), self._ladder.n > before
            _LOGGER.log(logging.WARNING if up else logging.INFO, "%s", words)
            self.counts.n_overloads += up
            self._pipeline.leave_out(self._ladder.n)
            yield Overload(event.source, self._ladder.n, words)

    def _refresh_site(self, estimate: SiteEstimate) -> None:
        """Put new thresholds in force, between two windows; keep those in force if they cannot be written."""
        now, path = self.in_force, site_path(self.config)
        assert path is not None  # the settings refuse to refresh without a place to write to
        before = {} if now.site.calibration is None else now.site.calibration.channels
        version = next_version(path)
        site = SiteCalibration.now(now.bundle, estimate.data, {**before, **estimate.channels}, version)
        try:
            save_site(path, site)
        except InputError as e:
            _LOGGER.error("%s: the thresholds in force stay", e)
            return
        now.refreshed(dataclasses.replace(now.site, calibration=site, problem=""))
        self.publisher.identity = identity = now.identity(self.publisher.identity)
        self._recorder.speak_as(identity)
        if self._forensic is not None:
            self._forensic.use(self._stamp(identity))
        _LOGGER.info("site calibration: %s", now.site.words())
        self.publisher.put(now.info(identity, self.publisher.endpoints), wait=not self.source.live)

    def _note(self, event: Event) -> None:
        """Remember where the stream stands."""
        self.tally.event(event)
        match event:
            case StreamStart():
                self._running = (event.source, event.epoch, 0)
                self._state = "running"
                self._label = event.label or event.source
                self.counts.n_streams += 1
            case AudioBlock():
                self._running = (event.source, event.epoch, event.first_sample + event.n_samples)
                self.counts.audio_s += event.n_samples / event.fs
            case Gap() if event.n_missing is not None:
                self._running = (event.source, event.epoch, event.first_sample + event.n_missing)
            case StreamEnd():
                self._running = None

    def _count(self, record: Record) -> None:
        self.tally.record(record)
        counts = self.counts
        if isinstance(record, SourceState):
            self._state, self._n_retries = record.state, record.n_retries
        match record:
            case Analysed():
                counts.n_windows += 1
            case Skipped():
                counts.n_skipped += 1
            case Signature():
                counts.n_signatures += not record.own_ship
            case Contact():
                counts.n_contacts += record.event == "start"
            case Gap():
                counts.n_gaps += 1
                counts.lost_samples += record.n_missing or 0
                where = "" if record.channel is None else f" on channel {record.channel}"
                n = "unknown number of" if record.n_missing is None else record.n_missing
                length = f"{n} samples, {record.duration_ns / 1e9:.3f} s"
                self._log(logging.WARNING, f"gap ({record.reason}){where} at sample {record.first_sample}: {length}")
            case ClockUpdate() if record.words:
                _LOGGER.warning("clock of %s: %s", record.source, record.words)
            case SourceState(state="refused"):
                self._problem(record.detail)
            case SourceState():
                level = logging.INFO if record.state == "running" else logging.WARNING
                self._log(level, f"source {record.source} is {record.state}: {record.detail}")
            case Health() if record.quality or record.channel in self._unwell:
                self._note_health(record)
            case StreamEnd() if record.problem:
                self._problem(f"{self._label}: {record.problem}")

    def _note_health(self, health: Health) -> None:
        """Log what changed in the checks of a channel."""
        said = ", ".join(f"{check} ({state})" for check, state in health.quality) or "ok"
        if self._unwell.get(health.channel, "ok") != said:
            self._unwell[health.channel] = said
            self._log(logging.WARNING, f"channel {health.channel}: {said}")

    def _problem(self, text: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text)
        self._log(logging.WARNING, text)

    def _log(self, level: int, line: str) -> None:
        """Log, but what comes again and again only a few times."""
        if (said := self._say.passes(line, time.monotonic())) is not None:
            _LOGGER.log(level, "%s", said)
