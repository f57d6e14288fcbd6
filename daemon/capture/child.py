"""The process that holds PortAudio: ``python -I -m daemon.capture.child REQUEST MEMORY_FD PARENT_PID``.

It copies blocks into the ring and does nothing else. PortAudio never says that sound stopped, and closing a dead
stream hangs or crashes; so the parent judges by the ring and ends this process with SIGKILL. It ends by itself when
its parent is gone: its standard input closes, and the kernel sends SIGKILL (PR_SET_PDEATHSIG, bound to the thread
that started it). It always leaves by ``os._exit``: a library's exit handler may hang for ever.

``--list`` in place of the request prints the input devices as JSON.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import mmap
import os
import signal
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from daemon.capture.cards import UsbId, card_with, cards, is_gone
from daemon.capture.devices import CaptureRefused, InputDevice, choose, query
from daemon.capture.request import Ready, Refusal, Request
from daemon.ring import SampleRing

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_MAX_LATENCY_S = 1.0
#: As sound servers ask for.
_NICE = -11
"""JACK has been seen to claim a latency of 89478 s."""


def main(argv: list[str]) -> int:
    """Serve one request; the exit code says nothing, the answer line does."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print belongs to the log, not into the answer
    if argv[0] == "--list":
        try:
            listing: dict[str, Any] = {"devices": [dataclasses.asdict(d) for d in query()]}
        except CaptureRefused as e:
            listing = {"detail": e.detail}
        _say(answer, json.dumps(listing))
        return 0
    request, memory_fd, parent = Request.from_json(argv[0]), int(argv[1]), int(argv[2])
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for our parent, who is asked to stop by the same signal
        signal.signal(number, signal.SIG_IGN)
    _die_with(parent)
    try:
        stream, ready = _open(request, memory_fd)
    except CaptureRefused as e:
        _say(answer, json.dumps(dataclasses.asdict(Refusal(e.detail, e.absent))))
        return 0
    _say(answer, json.dumps(dataclasses.asdict(ready)))
    while os.read(0, 64):  # blocks until the parent closes its end or dies
        pass
    del stream
    return 0


def _say(answer: Any, line: str) -> None:  # noqa: ANN401  (a text stream)
    answer.write(line + "\n")
    answer.flush()


def _die_with(parent: int) -> None:
    """Have the kernel kill us with our parent; leave now if it is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _come_first() -> int:
    """Ask to run before the rest of the machine; the niceness got. Threads started later inherit it."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    except PermissionError:  # needs LimitNICE= of the unit; the niceness is reported, whatever it is
        return os.getpriority(os.PRIO_PROCESS, 0)
    return _NICE


def _open(request: Request, memory_fd: int) -> tuple[Any, Ready]:
    nice = _come_first()  # before PortAudio starts threads
    device = _find(request)
    import sounddevice

    columns = tuple(range(device.n_channels)) if request.channels is None else request.channels
    if (absent := [c for c in columns if not 0 <= c < device.n_channels]) or not columns:
        raise CaptureRefused(f"{device} has no channel {absent}: its channels are 0 to {device.n_channels - 1}")
    fs = request.fs or round(device.fs)
    n_open = max(columns) + 1
    n_capacity = round(request.ring_s * fs)
    os.ftruncate(memory_fd, SampleRing.n_bytes(len(columns), n_capacity))
    ring = SampleRing.create(mmap.mmap(memory_fd, 0), len(columns), n_capacity)
    stream = _start(sounddevice, device, fs, n_open, request, _callback(ring, columns, n_open, fs * request.pace))
    if abs(stream.samplerate - fs) > 0.5:
        raise CaptureRefused(f"{device} was asked for {fs} Hz and gives {stream.samplerate:g} Hz: set that rate")
    latency_s = min(max(float(stream.latency), 0.0), _MAX_LATENCY_S)
    return stream, Ready(f"{device.name} ({device.host_api})", fs, columns, latency_s, nice, device.identity)


def _find(request: Request) -> InputDevice:
    """Look among the cards of the kernel before and after PortAudio does: it crashes on one that has gone."""
    usb = UsbId.parse(request.device)
    if usb is not None and isinstance(why := card_with(usb, cards()), str):
        raise CaptureRefused(why, absent=why.startswith("no "))
    device = choose(query(), request.device, cards(), request.was)
    if is_gone(device.name):
        raise CaptureRefused(f"{device} has gone: /proc/asound/cards does not list it", absent=True)
    return device


def _start(sd: Any, device: InputDevice, fs: int, n_open: int, request: Request, callback: Any) -> Any:  # noqa: ANN401
    try:
        stream = sd.InputStream(
            device=device.index, channels=n_open, samplerate=fs, dtype="float32", blocksize=0,
            latency=request.latency_s, dither_off=True, callback=callback,
        )  # fmt: skip
        stream.start()
    except sd.PortAudioError as e:
        raise CaptureRefused(f"{device} does not open with {n_open} channel(s) at {fs} Hz: {e}") from e
    return stream


def _callback(ring: SampleRing, columns: tuple[int, ...], n_open: int, fs_paced: float) -> Any:  # noqa: ANN401
    """Return what PortAudio calls with each block: copy it, stamp it."""
    every = columns == tuple(range(n_open))
    taken = list(columns)
    t_start = time.monotonic_ns()

    def on_block(x: npt.NDArray[np.float32], n: int, _time: object, flags: Any) -> None:  # noqa: ANN401
        if fs_paced:
            wait_s = (ring.n_written + n) / fs_paced - (time.monotonic_ns() - t_start) / 1e9
            time.sleep(max(0.0, wait_s))
        t_ns = time.monotonic_ns()
        if flags.input_overflow and ring.n_written:
            ring.mark_break()
        ring.write(x if every else x[:, taken], t_ns)

    return on_block


if __name__ == "__main__":
    code = 70
    try:
        code = main(sys.argv[1:])
    finally:  # an error has its traceback on the way to the parent's log; no exit handler may run
        if (error := sys.exc_info()[1]) is not None:
            sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
        os._exit(code)
