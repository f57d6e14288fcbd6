"""In place of the capture process: writes rendered sound into the capture ring at pace, and when each block came.

Started by `daemon.capture.process.CaptureProcess` with the words ``AUDIO STAMPS FS BLOCK`` and, behind them, the three
that every capture process gets. ``AUDIO`` is float32 ``(n_samples, n_channels)``, ``STAMPS``
int64 ``(n_blocks,)``, both ``.npy``; the stamps are CLOCK_MONOTONIC, ns, when the block was whole in the ring.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import select
import sys
import time

import numpy as np

from daemon.capture.request import Ready, Request
from daemon.ring import SampleRing

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Feed until all is written and the parent closes our standard input."""
    audio, stamps = np.load(argv[0], mmap_mode="r"), np.load(argv[1], mmap_mode="r+")
    fs, n_block = int(argv[2]), int(argv[3])
    request, memory_fd = Request.from_json(argv[4]), int(argv[5])
    n_channels, n_capacity = audio.shape[1], round(request.ring_s * fs)
    os.ftruncate(memory_fd, SampleRing.n_bytes(n_channels, n_capacity))
    ring = SampleRing.create(mmap.mmap(memory_fd, 0), n_channels, n_capacity)
    ready = Ready("rendered sound at pace", fs, tuple(range(n_channels)), 0.0, os.getpriority(os.PRIO_PROCESS, 0))
    sys.stdout.write(json.dumps(dataclasses.asdict(ready)) + "\n")
    sys.stdout.flush()
    start = time.monotonic()
    for k in range(len(stamps)):
        block = np.ascontiguousarray(audio[k * n_block : (k + 1) * n_block])  # read before it is due
        if select.select([0], [], [], max(0.0, start + (k + 1) * n_block / fs - time.monotonic()))[0]:
            return 0
        ring.write(block, time.monotonic_ns())
        stamps[k] = time.monotonic_ns()
    stamps.flush()
    while os.read(0, 64):
        pass
    return 0
