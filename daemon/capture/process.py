"""One life of the capture process, seen from the parent: start, answer, ring, log, SIGKILL."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from daemon.capture.request import Ready, Refusal, Request, parse_answer
from daemon.ring import SampleRing
from daemon.say_once import SayOnce

__all__ = ["CHILD", "CaptureProcess"]

_LOGGER = logging.getLogger(__name__)
CHILD = (sys.executable, "-I", "-m", "daemon.capture.child")
"""Isolated: neither the working directory nor PYTHONPATH can put another ``daemon`` before ours."""
_MAX_LINES = 20
"""Of the child's standard error that are logged in one life; ALSA alone writes dozens when it looks for cards."""


class CaptureProcess:
    """A child that captures into an anonymous shared memory, which is gone when both processes are.

    Nothing here waits longer than asked. The child is never asked to stop, it is killed.

    Parameters
    ----------
    request : Request
    child : sequence of str
        What to start; the words behind are the request, the memory and our process id.
    say : SayOnce, optional
        Limits what is logged of its standard error over the lives of many.

    Raises
    ------
    OSError
        If there are no files, processes or memory for it; nothing is held then.
    """

    def __init__(self, request: Request, child: Sequence[str] = CHILD, say: SayOnce | None = None) -> None:
        self._say = say or SayOnce()
        self.started_ns = time.monotonic_ns()
        with contextlib.ExitStack() as taken:  # given back if there is not enough for all of it
            self._memory = _anonymous_memory()
            taken.callback(os.close, self._memory)
            self._err, err_write = os.pipe()
            taken.callback(os.close, self._err)
            try:
                os.set_blocking(self._err, False)
                os.set_blocking(err_write, False)  # a log nobody reads must not stop the child
                self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
                    [*child, request.to_json(), str(self._memory), str(os.getpid())],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err_write, pass_fds=(self._memory,),
                )  # fmt: skip
            finally:
                os.close(err_write)
            taken.pop_all()
        self._answer = b""
        self._tail = b""
        self._last_line = ""
        self._n_lines = 0
        self._map: mmap.mmap | None = None
        self.ring: SampleRing | None = None
        """There once the child has answered ``Ready``."""

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    def answer(self, timeout_s: float) -> Ready | Refusal | None:
        """What the child said; None if it has not within ``timeout_s``. Ask until it did, then no more."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._answer:
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.log()
                return None
            data = os.read(fd, 1 << 16)
            if not data:
                return Refusal(f"the capture process died at its start ({self.obituary()})", absent=True)
            self._answer += data
        said = parse_answer(self._answer.decode("utf-8"))
        if isinstance(said, Ready):
            self._map = mmap.mmap(self._memory, 0)
            self.ring = SampleRing(self._map)
        return said

    def is_alive(self) -> bool:
        """Whether the process exists; says nothing about sound."""
        return self._process.poll() is None

    def obituary(self) -> str:
        """How the process ended and its last words."""
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "it hangs"
        self.log()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{how}; {self._last_line}" if self._last_line else how

    def log(self) -> None:
        """Pass on what the child wrote to its standard error, only so much of it."""
        while True:
            try:
                data = os.read(self._err, 1 << 14)
            except BlockingIOError:
                return
            if not data:
                return
            *lines, self._tail = (self._tail + data).split(b"\n")
            self._tail = self._tail[-1000:]
            for line in lines:
                self._log_line(line.decode("utf-8", "replace").strip())

    def _log_line(self, line: str) -> None:
        if not line:
            return
        self._last_line = line[:300]
        self._n_lines += 1
        if self._n_lines <= _MAX_LINES:
            level = logging.DEBUG if self.ring is None else logging.WARNING  # before: searching for cards
            said = self._say.passes(f"capture process {self.pid}: {self._last_line}", time.monotonic())
            if said is not None:
                _LOGGER.log(level, "%s", said)
        elif self._n_lines == _MAX_LINES + 1:
            _LOGGER.warning(
                "capture process %d writes more than %d lines: the rest is not logged", self.pid, _MAX_LINES
            )

    def kill(self) -> None:
        """End it with SIGKILL and let go of everything; may be called twice."""
        if self._err < 0:
            return
        self._process.kill()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:  # in the kernel, held by a driver: it dies when the driver lets go
            _LOGGER.error("capture process %d does not die: a driver holds it", self.pid)
        self.log()
        if self.ring is not None:
            self.ring.release()
            self.ring = None
        if self._map is not None:
            self._map.close()
            self._map = None
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        os.close(self._err)
        os.close(self._memory)
        self._err = -1


def _anonymous_memory() -> int:
    """Shared memory without a name: nothing to clean up, whoever dies first."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("tonald-capture", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as f:
        return os.dup(f.fileno())
