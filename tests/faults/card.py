"""A hydrophone on a real JACK server, and a daemon that listens to it."""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.catalogue import NotRun
from tests.faults.ear import Ear
from tests.faults.vessel import Daemon
from tests.jack_server import Jack

_N = iter(range(10_000))
CARD = {"source.kind": "device", "source.device": "hydro", "source.channels": [0, 1]}


def jack(*words: str) -> Jack:
    """A server that is not up yet."""
    if shutil.which("jackd") is None or ctypes.util.find_library("portaudio") is None:
        raise NotRun("jackd2 and libportaudio2 are not installed ('make system')")
    if any(importlib.util.find_spec(m) is None for m in ("jack", "sounddevice")):
        raise NotRun("JACK-Client or sounddevice is not installed")
    return Jack(f"f{os.getpid()}x{next(_N)}", *words)


def jack_env(server: Jack) -> dict[str, str]:
    return {"JACK_DEFAULT_SERVER": server.name, "JACK_NO_START_SERVER": "1", "JACK_NO_AUDIO_RESERVATION": "1"}


@contextlib.contextmanager
def hydrophone(
    folder: Path, settings: dict[str, Any] | None = None, *words: str, windows: int = 1, up: bool = True, **more: Any
) -> Iterator[tuple[Jack, Daemon, Ear]]:
    """Server, daemon and subscriber, once ``windows`` windows have come; everything is gone afterwards."""
    server = jack(*words)
    env = jack_env(server) | more.pop("env", {})
    try:
        if up:
            server.up()
        options = {"publish.wait_subscriber_s": 30.0, "source.on_absent": "wait"} | CARD | (settings or {})
        with Daemon(folder, options, env=env, **more) as daemon, Ear(daemon.endpoint) as ear:
            daemon.ready()
            if windows:
                ear.await_some("window", windows)
            yield server, daemon, ear
    finally:
        server.clean()


def play(server: Jack, file: Path) -> None:
    """Put another player in the place of the one that plays."""
    assert server.player is not None
    server._end(server.player)
    script = Path(__file__).parents[1] / "play_into_jack.py"
    server.player = subprocess.Popen(
        [sys.executable, str(script), str(file)], env=server.env, stdout=subprocess.PIPE, text=True
    )
    assert server.player.stdout is not None
    server.player.stdout.readline()


def stop_all(server: Jack, ear: Ear, daemon: Daemon) -> int:
    """End the daemon and hear its last word; its exit code."""
    code = daemon.end()
    ear.await_end(10)
    time.sleep(0.1)
    return code
