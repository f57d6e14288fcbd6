"""A JACK server with a real-time clock that can be killed, and a program that plays into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

FS = 48_000
#: A sound card's clock does not wait for a busy machine; nor may the server that stands in for it.
FIRST = ("nice", "-n", "-11") if os.geteuid() == 0 else ()


class Jack:
    """A dummy server of its own name, with ``play_into_jack.py`` and its words as hydrophone."""

    def __init__(self, name: str, *words: str) -> None:
        player = str(Path(__file__).with_name("play_into_jack.py"))
        self.name, self.script = name, [*FIRST, sys.executable, player, *words]
        self.env = dict(os.environ, JACK_DEFAULT_SERVER=name, JACK_NO_AUDIO_RESERVATION="1")
        self.server: subprocess.Popen | None = None
        self.player: subprocess.Popen | None = None

    def up(self) -> None:
        self.server = subprocess.Popen(
            [*FIRST, "jackd", "-n", self.name, "-d", "dummy", "-r", str(FS), "-p", "1024", "-C", "2", "-P", "2"],
            env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 20
        while time.monotonic() < end:
            self.player = subprocess.Popen(
                self.script,
                env=self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            if self.player.stdout.readline().strip() == "up":
                return
            self._end(self.player)
            assert self.server.poll() is None, "jackd ended"
            time.sleep(0.2)
        raise AssertionError("jackd did not come up within 20 s")

    def down(self) -> None:
        for process in (self.player, self.server):
            if process is not None:
                self._end(process)
        self.player = self.server = None

    @staticmethod
    def _end(process: subprocess.Popen) -> None:
        process.terminate()  # so that jackd frees its memory; a frozen one needs more
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

    def clean(self) -> None:
        """Remove what a killed jackd left under its name.

        The segments ``jack-UID-N`` belong to a registry shared by all servers of a user: the next one frees those of
        a killed one. Removing them by hand keeps every later server from starting.
        """
        self.down()
        for path in Path("/dev/shm").glob(f"*{self.name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
