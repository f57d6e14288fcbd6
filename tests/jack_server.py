"""A JACK server with a real-time clock that can be killed, and a program that plays into it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
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
        self._said = Path(tempfile.gettempdir()) / f"jackd-{name}.log"
        self.env = dict(os.environ, JACK_DEFAULT_SERVER=name, JACK_NO_AUDIO_RESERVATION="1")
        self.server: subprocess.Popen | None = None
        self._killed = False
        self.player: subprocess.Popen | None = None

    def up(self) -> None:
        self._serve()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            self.player = subprocess.Popen(
                self.script,
                env=self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            if self.player.stdout.readline().strip() == "up":
                return
            self._end(self.player)
            assert self.server.poll() is None, f"jackd ended: {self._said.read_text()}"
            time.sleep(0.2)
        raise AssertionError("jackd did not come up within 20 s")

    def _serve(self) -> None:
        with self._said.open("w") as said:
            self.server = subprocess.Popen(
                [*FIRST, "jackd", "-n", self.name, "-d", "dummy", "-r", str(FS), "-p", "1024", "-C", "2", "-P", "2"],
                env=self.env, stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._killed = False  # it takes over the entry of a killed one of its name

    def down(self) -> None:
        for process in (self.player, self.server):
            if process is not None:
                self._end(process)
        if self.server is not None:
            self._killed = self.server.returncode == -signal.SIGKILL
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
        a killed one. Removing them by hand keeps every later server from starting. That registry has eight entries for
        servers, and a killed one keeps its own until a server of the same name has ended well.
        """
        self.down()
        if self._killed:
            self._serve()
            end = time.monotonic() + 10
            while "starting in" not in self._said.read_text() and time.monotonic() < end:
                time.sleep(0.05)
            self.down()
        self._said.unlink(missing_ok=True)
        for path in Path("/dev/shm").glob(f"*{self.name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
