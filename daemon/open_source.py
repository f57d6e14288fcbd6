"""From settings to a source; each kind is imported only when it is used."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from daemon.clock_system import Clocks, read_clocks
from daemon.config import SourceConfig
from daemon.frames import Source
from models.errors import InputError, UsageError

if TYPE_CHECKING:
    from daemon.sources.portaudio import PortAudioSource

__all__ = ["open_source", "parse_source", "paused", "resume"]


def parse_source(text: str, settings: SourceConfig) -> SourceConfig:
    """Settings for the short form of the command line.

    ``-`` is raw PCM on standard input, ``ocean`` or ``ocean:SCENARIO`` the simulated ocean, ``device:NAME`` a sound
    card, anything else a file or folder.

    Raises
    ------
    UsageError
        If a name is missing.
    """
    kind, _, rest = text.partition(":")
    if text == "-":
        return dataclasses.replace(settings, kind="pcm")
    if kind == "ocean":
        return dataclasses.replace(settings, kind="simulated", scenario=rest or settings.scenario)
    if kind == "device":
        if not rest:
            raise UsageError("--source device: names no sound card; 'tonald devices' lists them")
        return dataclasses.replace(settings, kind="device", device=rest)
    if not text:
        raise UsageError("--source is empty: give a file, a folder, '-', 'ocean' or 'device:NAME'")
    return dataclasses.replace(settings, kind="file", path=text)


def open_source(settings: SourceConfig, clocks: Clocks = read_clocks) -> Source:
    """Open what the settings name, with a clock beside it where there is one to be measured.

    ``clocks`` reads the clocks of the machine.

    Raises
    ------
    InputError, AudioFormatError, DeviceError, UsageError
        If it cannot be opened; the message says why and what to do.
    """
    source = _open(settings)
    pps = f"ch{settings.pps_channel}" if settings.pps_channel >= 0 else None
    of_system = settings.kind == "device" or (settings.kind == "simulated" and not settings.max_speed)
    if not of_system and pps is None:
        return source
    from daemon.clock_sync import SyncWatch
    from daemon.sources.timed import TimedSource

    return TimedSource(source, pps=pps, clocks=clocks, sync=SyncWatch() if of_system else None)


def resume(source: Source) -> bool:
    """Have a sound card that is lost looked for now, whatever the settings say; False: the source is none."""
    card = _card_of(source)
    if card is None:
        return False
    card.resume()
    return True


def paused(source: Source) -> bool:
    """Whether a lost sound card is looked for only when somebody asks."""
    card = _card_of(source)
    return card is not None and card.paused


def _card_of(source: Source) -> PortAudioSource | None:
    """The sound card behind a source; imported only where there may be one."""
    if not source.live:
        return None
    from daemon.sources.portaudio import PortAudioSource
    from daemon.sources.timed import TimedSource

    inner = source.source if isinstance(source, TimedSource) else source
    return inner if isinstance(inner, PortAudioSource) else None


def _open(settings: SourceConfig) -> Source:
    channels = settings.channels or None
    if channels is not None and settings.pps_channel >= 0:
        channels = (*channels, settings.pps_channel)
    if settings.kind == "file":
        from daemon.sources.audio_file import AudioFileSource

        return AudioFileSource(Path(settings.path), realtime=settings.realtime, channels=channels, join=settings.join)
    if settings.kind == "pcm":
        from daemon.sources.raw_pcm import RawPcmSource

        return RawPcmSource(
            _standard_input(),
            fs=settings.fs or None,
            n_channels=settings.n_channels or None,
            sample_format=None if settings.sample_format == "auto" else settings.sample_format,
            channels=channels,
        )
    if settings.kind == "device":
        from daemon.sources.portaudio import PortAudioSource

        return PortAudioSource(
            settings.device,
            fs=settings.fs or None,
            channels=channels,
            on_absent=settings.on_absent,
            latency_s=settings.latency_s,
            silent_s=settings.silent_s,
            on_loss=settings.on_loss,
        )
    from daemon.sources.simulated import SimulatedSource

    return SimulatedSource(
        scenario=settings.scenario,
        fs=settings.fs or 8000,
        channels=[f"ch{c}" for c in range(settings.n_channels or 1)],
        index=settings.seed,
        realtime=not settings.max_speed,
        duration_s=settings.duration_s or None,
    )


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise InputError("standard input is closed: pipe raw PCM into it, e.g. arecord ... | tonald run --source -")
    return sys.stdin.buffer
