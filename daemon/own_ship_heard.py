"""What was heard while the own ship was alone: tonals of consecutive windows, of a recording or of a running daemon."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.own_ship_learn import Heard
from daemon.curve import ClientKeys
from daemon.frames import AudioBlock, Gap, StreamStart
from daemon.lines import lines_of
from daemon.sources.audio_file import AudioFileSource
from daemon.subscriber import Subscriber
from models.bundle import Bundle
from models.errors import AudioFormatError, BundleError, InputError
from models.feature_spec import FeatureSpec
from models.features import FeatureWindow, FrontEnd
from models.tracks import TrackFinder

__all__ = ["MIN_SNR_DB", "heard_in", "heard_live", "heard_windows"]

F32 = npt.NDArray[np.float32]

MIN_SNR_DB = 2.0
"""As the daemon reports lines unless told otherwise (extract.line_snr_db)."""
#: A daemon that says nothing for so long is not there, s.
SILENCE_S = 60.0


@dataclass(slots=True)
class _Collected:
    """Tonals of one channel."""

    n_windows: int = 0
    window: list[int] = field(default_factory=list)
    freq_hz: list[float] = field(default_factory=list)
    level_db: list[float] = field(default_factory=list)

    def add(self, freq_hz: float, level_db: float) -> None:
        """One tonal of the latest window."""
        self.window.append(self.n_windows - 1)
        self.freq_hz.append(freq_hz)
        self.level_db.append(level_db)

    def heard(self) -> Heard:
        return Heard(
            self.n_windows, np.array(self.window, np.int64), np.array(self.freq_hz, np.float64),
            np.array(self.level_db, np.float64),
        )  # fmt: skip


def heard_in(recording: Path, bundle: Bundle, progress: Callable[[str], None] | None = None) -> dict[str, Heard]:
    """Tonals of a recording by channel, in windows that share no sample; no network is asked.

    Raises
    ------
    InputError, AudioFormatError
        If it cannot be read or used.
    """
    finder, found = TrackFinder(bundle.spec), dict[str, _Collected]()
    source = AudioFileSource(recording)
    front_end: FrontEnd | None = None
    every, told = 1, 0
    try:
        while (event := source.read(0.0)) is not None:
            if isinstance(event, StreamStart):
                front_end = FrontEnd(bundle.spec, event.fs, len(event.channels))
                every = _every(bundle.spec.n_samples(event.fs), bundle.spec.step(event.fs))
                names = event.channels
            elif isinstance(event, Gap) and front_end is not None and event.n_missing is not None:
                front_end.reset(event.first_sample + event.n_missing)
            elif isinstance(event, AudioBlock) and front_end is not None:
                for w in front_end.process(event.x):
                    if w.grid_index % every == 0:
                        _note(found, names, w, bundle.spec, event.fs, finder)
                minutes = int((event.first_sample + event.n_samples) / event.fs // 60)
                if progress is not None and minutes > told:
                    told = minutes
                    progress(f"{recording.name}: {minutes} min")
    finally:
        source.close()
    if not found:
        raise AudioFormatError(f"{recording}: holds no whole window")
    return {name: c.heard() for name, c in found.items()}


def _every(n_samples: int, step: int) -> int:
    """Slots of the grid from one window to the next that shares no sample with it."""
    return math.ceil(n_samples / step)


def _note(
    found: dict[str, _Collected],
    names: tuple[str, ...],
    w: FeatureWindow,
    spec: FeatureSpec,
    fs: int,
    finder: TrackFinder,
) -> None:
    for c, name in enumerate(names):
        collected = found.setdefault(name, _Collected())
        collected.n_windows += 1
        for trace in lines_of(spec, fs, finder.find(w.spectrum_db[c]), w.spectrum_db[c], MIN_SNR_DB):
            collected.add(trace.line.freq_hz, trace.line.level_db)


def heard_windows(x: F32, fs: int, names: tuple[str, ...], spec: FeatureSpec) -> dict[str, Heard]:
    """The same of samples ``(n_channels, n)`` at ``fs`` Hz that are at hand."""
    found: dict[str, _Collected] = {}
    finder, every = TrackFinder(spec), _every(spec.n_samples(fs), spec.step(fs))
    for w in FrontEnd(spec, fs, len(names)).process(x):
        if w.grid_index % every == 0:
            _note(found, names, w, spec, fs, finder)
    return {name: c.heard() for name, c in found.items()}


def heard_live(endpoint: str, bundle: Bundle, minutes: float, keys: ClientKeys | None = None) -> dict[str, Heard]:
    """Tonals that a running daemon publishes for so long, by channel.

    Lines are published with signatures only (of classes, of ``unknown`` and of the own ship as known so far): what
    never made a signature is not learned, and need not be.

    Raises
    ------
    InputError
        If nothing is heard of a daemon.
    BundleError
        If it runs another bundle.
    """
    found: dict[str, _Collected] = {}
    taken: dict[str, tuple[str, int, int]] = {}  # by channel the window that its next signatures belong to
    end, last = time.monotonic() + 60.0 * minutes, time.monotonic()
    with Subscriber(endpoint, ("window/", "signature/", "own_ship/", "heartbeat/"), keys=keys) as subscriber:
        while (now := time.monotonic()) < end:
            message = subscriber.receive(min(1.0, end - now))
            if message is None:
                if time.monotonic() - last > min(SILENCE_S, 60.0 * minutes):
                    raise InputError(f"{endpoint}: no window for {SILENCE_S:.0f} s; does the daemon run there?")
                continue
            body = message.body
            if message.family == "heartbeat":
                if body["final"] and found:
                    break  # the daemon ends: what was heard so far counts
                continue
            last = time.monotonic()
            if body["bundle"] != bundle.id:
                raise BundleError(f"{endpoint}: the daemon runs bundle {body['bundle']}, this is {bundle.id}: --bundle")
            name, slot = body["channel"], (body["publisher"], body["epoch"], body["first_sample"])
            if message.family == "window":
                before = taken.get(name)
                free = before is None or before[:2] != slot[:2] or slot[2] >= before[2] + body["n_samples"]
                if body["analysed"] and free:
                    taken[name] = slot
                    found.setdefault(name, _Collected()).n_windows += 1
            elif taken.get(name) == slot:
                collected = found[name]
                for line in body["lines"]:
                    if line["level_db_re_fs"] is not None:
                        collected.add(line["freq_hz"], line["level_db_re_fs"])
    if not found:
        raise InputError(f"{endpoint}: no window was published within {minutes:g} min; does the daemon run there?")
    return {name: c.heard() for name, c in found.items()}
