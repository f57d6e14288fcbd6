"""A sound card as a source: captured by a child process that is judged by its samples and replaced when dead."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Sequence
from typing import Literal

from daemon.capture.audit import ClockAudit
from daemon.capture.epoch import CardEpoch
from daemon.capture.hearing import Hearing
from daemon.capture.process import CHILD, CaptureProcess
from daemon.capture.request import Ready, Refusal, Request
from daemon.capture.retry import OnLoss, Retry
from daemon.frames import AudioBlock, Backlog, ClockState, Event, Gap, SourceState, StreamEnd, StreamStart
from daemon.ring import SampleRing
from daemon.say_once import SayOnce
from models.errors import DeviceError

__all__ = ["PortAudioSource"]


_NS = 1_000_000_000
_POLL_S = 0.005
_MAX_RATE_ERROR = 0.05
"""Of the nominal rate, over one span of the audit; a quartz is off by 0.0001."""


STABLE_S = 30.0
"""A child that lived for so long was well: the next is tried without delay."""


class PortAudioSource:
    """One sound card; implements :class:`daemon.frames.Source`.

    The device is the one that ``device`` names, never another and never "the default". It is opened with as many
    inputs as the highest channel asked needs, and columns are picked: nothing is mixed. A rate other than asked is
    refused.

    The child is replaced when its blocks stop for ``max_age_s``, come at a rate more than 5 % off, hold no signal on
    any channel for ``silent_s``, or the process dies; attempts are 0.5 s to 30 s apart, for ever, and the wait grows
    until a child has lived for ``STABLE_S``. After samples without signal a new child is taken once it is heard. Each
    child is a new epoch; so is the stream after a loss that the card tells of or the clock shows. The length of such a
    gap is measured by CLOCK_MONOTONIC; its error is the latency of the card before and after. If the reader is away
    for more than ``ring_s``, the gap is exact and within the epoch.

    UTC of an epoch's first sample is the system clock when its first block came, less the block; the card's own
    latency before that is unknown. The child is bound to the thread that makes the source: let that thread live.

    Parameters
    ----------
    device : str
        Pattern, see :func:`daemon.capture.devices.choose`.
    fs : int, optional
        Hz; None or 0: the device's default at the first start, kept from then on.
    channels : sequence of int, optional
        Inputs from 0; None: all that the device has at the first start.
    name : str
        Of the source.
    on_absent : "fail" or "wait"
        At the first start: raise if the device is not there, or wait for it.
    block_s : (float, float)
        Shortest and longest block: what is there is given at once, so that no window waits for samples behind it.
    ring_s, latency_s, pace : float
        See :class:`daemon.capture.request.Request`.
    max_age_s : float
        Without a new block for so long the child is dead.
    start_timeout_s : float
        Time for a child to open the card and give its first block.
    backoff_s : (float, float)
        First and longest wait between attempts.
    silent_s : float
        Without signal for so long (daemon.capture.hearing) the card is lost; 0: never.
    on_loss : "wait", "exit" or "pause"
        When the card is lost: try for ever to get the same one back; raise; or wait for ``resume``.
    child : sequence of str
        What is started to capture, see :class:`daemon.capture.process.CaptureProcess`.

    Raises
    ------
    DeviceError
        If no, or more than one, input device matches (listing them); no such channel; another rate; PortAudio missing.
    """

    live = True

    def __init__(
        self,
        device: str,
        *,
        fs: int | None = None,
        channels: Sequence[int] | None = None,
        name: str = "card",
        on_absent: Literal["fail", "wait"] = "fail",
        block_s: tuple[float, float] = (0.01, 0.25),
        ring_s: float = 10.0,
        latency_s: float = 0.5,
        pace: float = 0.0,
        max_age_s: float = 1.5,
        start_timeout_s: float = 10.0,
        backoff_s: tuple[float, float] = (0.5, 30.0),
        silent_s: float = 2.0,
        on_loss: OnLoss = "wait",
        child: Sequence[str] = CHILD,
    ) -> None:
        self.name = name
        self._request = Request(device, fs or 0, None if channels is None else tuple(channels), latency_s, ring_s, pace)
        self._block_s, self._max_age_s, self._start_timeout_s = block_s, max_age_s, start_timeout_s
        self._retry, self._child = Retry(*backoff_s), tuple(child)
        self._silent_s, self._on_loss = silent_s, on_loss
        self._say = SayOnce()
        self._listening = False  # the last child gave no signal: the next is taken once it is heard
        self._over: DeviceError | None = None
        self._events: deque[Event] = deque()
        self._process: CaptureProcess | None = None
        self._ready: Ready | None = None
        self._epoch: CardEpoch | None = None
        self._n_epochs = 0
        self._lost_at: tuple[int, int, int, str] | None = None  # epoch, its length, CLOCK_MONOTONIC of its end, why
        self._breaks: deque[int] = deque()
        self._n_breaks = 0
        self._closed = False
        said = self._spawn().answer(start_timeout_s)
        if isinstance(said, Ready):
            self._take(said)
            return
        refusal = said or Refusal(f"'{device}' did not open within {start_timeout_s:g} s", absent=True)
        self._kill()
        if on_absent == "fail" or not refusal.absent:
            raise DeviceError(refusal.detail)
        self._wait(refusal.detail)

    @property
    def child_pid(self) -> int | None:
        """Process id of the child; None while there is none."""
        return self._process.pid if self._process else None

    def read(self, timeout_s: float) -> Event | None:
        """Next event; None if nothing came within ``timeout_s``.

        Raises
        ------
        DeviceError
            If the card was lost and ``on_loss`` is "exit"; what led to it was given before.
        """
        deadline = time.monotonic() + max(timeout_s, 0.0)
        while not self._closed:
            if not self._events:
                if self._over is not None:
                    raise self._over
                self._turn()
            if self._events:
                return self._events.popleft()
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            time.sleep(min(_POLL_S, left_s))
        return None

    def backlog(self) -> Backlog:
        """What waits in the child's ring."""
        e = self._epoch
        waiting_s = 0.0 if e is None else max(0, e.ring.n_written - e.at) / e.ready.fs
        return Backlog(waiting_s, self._request.ring_s)

    @property
    def paused(self) -> bool:
        """The card was lost, and the settings want it looked for only when somebody asks."""
        return self._process is None and self._retry.paused

    def resume(self) -> None:
        """Look for the card now, paused or not; may be called by another thread."""
        self._retry.resume()

    def close(self) -> None:
        """Kill the child; may be called twice."""
        self._closed = True
        self._kill()

    def _turn(self) -> None:
        """One step of whatever is under way: waiting, starting, running."""
        if self._process is None:
            if self._retry.due:
                self._retry.trying()
                try:
                    self._spawn()
                except DeviceError as e:  # no files or processes left: they may come back, like a card
                    self._wait(str(e))
            return
        if self._ready is None:
            said = self._process.answer(0.0)
            if isinstance(said, Ready):
                self._take(said)
            elif said is not None:
                self._fail(said.detail, "waiting" if said.absent else "refused")
            elif self._age_s(self._process.started_ns) > self._start_timeout_s:
                self._fail(f"'{self._request.device}' did not open within {self._start_timeout_s:g} s")
            return
        self._process.log()
        ring = self._process.ring
        assert ring is not None
        n_written, t_written_ns = ring.position()
        if n_written:
            if self._epoch is None and (base := self._hearing.listen(ring) if self._listening else 0) is not None:
                self._begin(self._ready, ring, base)
            if self._epoch is not None:
                self._epoch.note(n_written, t_written_ns)
            self._give()
        if self._events:
            return
        self._judge(ring, n_written, t_written_ns)

    def _judge(self, ring: SampleRing, n_written: int, t_written_ns: int) -> None:
        """Decide, once all that came is given, whether the child is still worth keeping."""
        assert self._process is not None
        if not self._process.is_alive():
            self._drain()
            self._fail(f"the capture process died ({self._process.obituary()})")
        elif not n_written:
            if self._age_s(self._process.started_ns) > self._start_timeout_s:
                self._fail("the card opened but gives no samples")
        elif (age_s := self._age_s(t_written_ns)) > self._max_age_s:
            self._drain()
            self._fail(f"no samples for {age_s:.1f} s")
        elif why := self._hearing.lost:
            self._listening = True
            self._fail(why)
        elif self._epoch is None:
            return
        elif found := self._audit.add(n_written, t_written_ns):
            if abs(found.fs / self._audit.fs - 1) > _MAX_RATE_ERROR:
                self._drain()
                self._fail(f"samples come at {found.fs:.0f} Hz instead of {self._audit.fs:.0f} Hz")
            elif found.lost_s:
                self._drain()
                self._restart(ring, ring.n_written, "the clock shows lost samples that the card did not tell of")

    def _take(self, ready: Ready) -> None:
        """Keep rate and channels of the first start for all later ones."""
        self._ready = ready
        self._request = dataclasses.replace(self._request, fs=ready.fs, channels=ready.columns, was=ready.identity)
        self._hearing = Hearing(ready.fs, len(ready.columns), self._silent_s)
        self._breaks.clear()
        self._n_breaks = 0

    def _begin(self, ready: Ready, ring: SampleRing, base: int) -> None:
        self._listening = False
        self._hearing.reset(0)
        n, t_ns = ring.position()
        t_first_ns = t_ns - (n - base) * _NS // ready.fs
        if self._lost_at is not None:
            epoch, n_samples, t_end_ns, why = self._lost_at
            duration_ns = max(0, t_first_ns - t_end_ns)
            err_ns = round(ready.latency_s * _NS)
            self._events.append(Gap(self.name, epoch, n_samples, None, duration_ns, err_ns, why))
            self._lost_at = None
        if self._retry.n:
            self._events.append(SourceState(self.name, "running", f"{ready.device} is back", self._retry.n))
            self._retry.n = 0
        self._epoch = CardEpoch(ready, ring, base, base, t_first_ns)
        self._audit = ClockAudit(ready.fs * (self._request.pace or 1.0))
        t_utc_ns = time.time_ns() - (time.monotonic_ns() - t_first_ns)
        names = tuple(f"ch{c}" for c in ready.columns)
        clock = ClockState("system", est_error_ns=round(ready.latency_s * _NS))
        self._events.append(StreamStart(self.name, self._n_epochs, ready.fs, names, ready.device, t_utc_ns, clock))
        self._n_epochs += 1

    def _give(self, n_least: int | None = None) -> None:
        """Put the next block into the events if it is long enough, and what was lost before it."""
        e = self._epoch
        if e is None:
            return
        self._n_breaks, places = e.ring.breaks(self._n_breaks)
        self._breaks.extend(p for p in places if p > e.at)
        n_short, n_block = (max(1, round(s * e.ready.fs)) for s in self._block_s)
        end = self._breaks[0] if self._breaks else e.ring.n_written
        if end - e.at < (n_short if n_least is None else n_least) and not self._breaks:
            return
        got = e.ring.read(e.at, min(n_block, end - e.at))
        if got.n_lost and self._breaks and got.first >= self._breaks[0]:
            self._restart(e.ring, got.first, "the card lost samples while the reader was away")
            return
        epoch = self._n_epochs - 1
        if got.n_lost:
            lost_ns = got.n_lost * _NS // e.ready.fs
            why = f"read too late: the ring holds {self._request.ring_s:g} s"
            self._events.append(Gap(self.name, epoch, e.at - e.base, got.n_lost, lost_ns, 0, why))
            self._hearing.reset(got.first)
        if got.x.shape[1]:
            got.x.setflags(write=False)
            self._hearing.process(got.x)
            self._events.append(AudioBlock(self.name, epoch, got.first - e.base, e.ready.fs, got.x, e.stamp))
            e.stamp = None
        e.at = got.first + got.x.shape[1]
        if self._breaks and e.at >= self._breaks[0]:
            self._restart(e.ring, e.at, "the card lost samples (overflow)")

    def _drain(self) -> None:
        """Give everything that is left in the ring."""
        while (e := self._epoch) is not None and e.at < e.ring.n_written:
            self._give(n_least=1)

    def _restart(self, ring: SampleRing, base: int, why: str) -> None:
        """End the epoch and begin the next at ring index ``base`` of the same child."""
        while self._breaks and self._breaks[0] <= base:
            self._breaks.popleft()
        self._finish(why)
        assert self._ready is not None
        self._begin(self._ready, ring, base)

    def _finish(self, why: str) -> None:
        """End the epoch after the last sample given."""
        if (e := self._epoch) is None:
            return
        n_samples = e.n_given
        self._events.append(StreamEnd(self.name, self._n_epochs - 1, n_samples, final=False, problem=why))
        self._lost_at = (self._n_epochs - 1, n_samples, e.t_first_ns + n_samples * _NS // e.ready.fs, why)
        self._epoch = None

    def _fail(self, why: str, state: Literal["waiting", "refused"] = "waiting") -> None:
        """Give up this child; another will be tried, if the settings want that."""
        if self._epoch is not None and self._epoch.n_given >= STABLE_S * self._epoch.ready.fs:
            self._retry.was_well()
        self._finish(why)
        self._kill()
        if self._n_epochs and self._on_loss == "exit":
            self._over = DeviceError(f"sound card '{self._request.device}' is lost: {why} (source.on_loss = 'exit')")
        else:
            self._wait(why, state)

    def _wait(self, why: str, state: Literal["waiting", "refused"] = "waiting") -> None:
        paused = self._n_epochs > 0 and self._on_loss == "pause"
        self._retry.failed(paused=paused)
        if paused:
            why += "; paused (source.on_loss): SIGHUP looks for it again"
        self._events.append(SourceState(self.name, state, why, self._retry.n))

    def _spawn(self) -> CaptureProcess:
        try:
            self._process = CaptureProcess(self._request, self._child, self._say)
        except OSError as e:
            raise DeviceError(f"the capture process cannot be started: {e}") from e
        return self._process

    def _kill(self) -> None:
        self._epoch, self._ready = None, None
        if self._process is not None:
            self._process.kill()
            self._process = None

    @staticmethod
    def _age_s(t_ns: int) -> float:
        return (time.monotonic_ns() - t_ns) / _NS
