"""A daemon under test: a real ``tonald run`` as a subprocess, its log, its processes, and who looks after it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.faults.catalogue import Broken

ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0
"""A start is given so long on a machine that does other things, too."""


def wait_for(what: Callable[[], Any], timeout_s: float, words: str) -> Any:
    """What the call gives, as soon as it is true; ``Broken`` after the time."""
    end = time.monotonic() + timeout_s
    while True:
        if got := what():
            return got
        if time.monotonic() > end:
            raise Broken(f"{words} did not happen within {timeout_s:g} s")
        time.sleep(0.02)


def toml(settings: dict[str, Any]) -> str:
    """Settings ``{"source.kind": "file", ...}`` as TOML; dotted keys are enough."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())


class Manager:
    """Stands in for systemd: a notification socket that notes what came and when."""

    def __init__(self, folder: Path, watchdog_s: float = 4.0) -> None:
        self.path = folder / "notify"
        self.told: list[tuple[float, str]] = []
        self.env = {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(round(watchdog_s * 1e6))}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(0.2)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                text = self._socket.recv(8192).decode()
            except TimeoutError:
                continue
            self.told.append((time.monotonic(), text))

    def said(self, word: str) -> list[float]:
        """When it was said."""
        return [t for t, text in list(self.told) if any(line.startswith(word) for line in text.splitlines())]

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()


class Daemon:
    """One run.

    Parameters
    ----------
    folder : Path
        Configuration, log and socket go there.
    settings : dict
        Of the configuration file.
    words : sequence of str
        More words of the command line.
    env : dict
        Added to the environment.
    command : sequence of str
        What is started, less ``run`` and what follows.
    before : callable
        Called in the new process before the program starts (limits).
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any] | None = None,
        *,
        words: Sequence[str] = (),
        env: dict[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "daemon"),
        before: Callable[[], None] | None = None,
        stdin: int = subprocess.DEVNULL,
        name: str = "tonald",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name = folder, name
        self.endpoint = f"ipc://{folder}/{name}.ipc"
        self.config = folder / f"{name}.toml"
        self.set(settings or {})
        self.log_path = folder / f"{name}.log"
        self.started_at = time.monotonic()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "run", "--quiet", "--config", str(self.config), *words],
                cwd=ROOT, env={**os.environ, "PYTHONFAULTHANDLER": "1", **(env or {})}, stdin=stdin,
                stdout=subprocess.DEVNULL, stderr=log, preexec_fn=before,
            )  # fmt: skip

    def set(self, settings: dict[str, Any]) -> None:
        """Write the configuration file anew."""
        self.config.write_text(toml({"publish.endpoints": [self.endpoint]} | settings))

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _t: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            for child in self.children():
                child.kill()
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        if isinstance(error, Broken):
            error.args = (f"{error}; log ends: {' / '.join(self.log.splitlines()[-4:])}",)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def last_line(self) -> str:
        return ([x for x in self.log.splitlines() if x.strip()] or [""])[-1]

    def await_log(self, text: str, timeout_s: float = START_S, n: int = 1) -> float:
        """Until the log holds ``text`` ``n`` times; how long that took."""
        began = time.monotonic()

        def there() -> bool:
            if self.log.count(text) >= n:
                return True
            if self.process.poll() is not None and self.log.count(text) < n:
                raise Broken(f"ended with {self.process.returncode} before it said {text!r}")
            return False

        wait_for(there, timeout_s, f"{text!r} in the log")
        return time.monotonic() - began

    def ready(self) -> Daemon:
        """Until it serves."""
        self.await_log("publishing on")
        return self

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Send a signal and wait for the end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60.0) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise Broken(f"the process did not end within {timeout_s:g} s") from None

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def child(self) -> psutil.Process:
        """The capture process."""
        return wait_for(
            lambda: next((c for c in self.children() if "daemon.capture.child" in " ".join(_cmdline(c))), None),
            75.0, "a capture process",
        )  # fmt: skip

    @property
    def footprint(self) -> tuple[float, int, int]:
        """RSS in MB, open files, threads."""
        p = psutil.Process(self.process.pid)
        return p.memory_info().rss / 1e6, p.num_fds(), p.num_threads()

    def alive(self) -> bool:
        return self.process.poll() is None


def _cmdline(p: psutil.Process) -> list[str]:
    try:
        return p.cmdline()
    except psutil.Error:
        return []


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie of another parent has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
