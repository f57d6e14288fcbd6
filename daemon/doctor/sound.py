"""Where the samples come from: card, files, rights to them."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from daemon.capture.devices import CaptureRefused, choose
from daemon.commands.devices import input_devices
from daemon.config import Config
from daemon.doctor.finding import Finding, fail, ok, warn
from models.errors import DeviceError

__all__ = ["check_source"]

CARDS = Path("/proc/asound/cards")


def check_source(config: Config) -> Iterator[Finding]:
    """The configured source, as far as it can be seen without taking it."""
    source = config.source
    match source.kind:
        case "simulated":
            yield warn("source", "the simulated ocean: no hydrophone is heard", "set source.kind = 'device'")
        case "pcm":
            yield ok("source", "raw PCM on standard input: whoever starts tonald must pipe it")
        case "file":
            from daemon.sources.audio_file import audio_files

            files = audio_files(Path(source.path))
            yield ok("source", f"{source.path}: {len(files)} audio file{'s' * (len(files) != 1)}")
        case "device":
            yield from _card(config)
            yield from _rights()


def _card(config: Config) -> Iterator[Finding]:
    source = config.source
    kernel = _kernel_cards()
    yield (
        ok("cards", f"the kernel knows {', '.join(kernel)}")
        if kernel
        else warn(
            "cards", f"the kernel knows none ({CARDS})", "plug it in; lsusb, dmesg; a JACK or PipeWire card needs none"
        )
    )
    try:
        devices = input_devices()
        device = choose(devices, source.device)
    except DeviceError as e:
        yield fail("source", str(e), "see docs/troubleshooting.md, code 69")
        return
    except CaptureRefused as e:
        yield fail("source", e.detail, "'tonald devices' lists them; docs/troubleshooting.md, code 69")
        return
    wanted = max((*source.channels, source.pps_channel), default=-1) + 1
    if wanted > device.n_channels:
        yield fail("source", f"{device}: channel {wanted - 1} is asked for", "channels count from 0")
    elif source.fs and source.fs != device.fs:
        yield warn(
            "source", f"{device}, {source.fs} Hz are asked for", "see at the first start whether it has that rate"
        )
    else:
        yield ok("source", str(device))


def _kernel_cards() -> list[str]:
    """Cards by the kernel's list, e.g. ``UMC204HD [UMC204HD 192k]``."""
    try:
        lines = CARDS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []  # no sound in this kernel: the warning above says so
    return [line.partition("]:")[2].strip() for line in lines if "]:" in line]


def _rights() -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield ok("rights", "root may use every card; the unit has group audio")
        return
    try:
        audio = grp.getgrnam("audio").gr_gid
    except KeyError:
        yield warn("rights", "this system has no group audio", "see who owns /dev/snd")
        return
    if audio in {os.getegid(), *os.getgroups()}:
        yield ok("rights", "this user is in group audio")
    else:
        user = pwd.getpwuid(os.geteuid()).pw_name
        yield fail("rights", f"{user} is not in group audio", f"usermod -aG audio {user}; the unit has it already")
