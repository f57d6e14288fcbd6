"""Clocks and disk of a daemon's processes, set at will: builds and drives shim.c."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from pathlib import Path

from tests.faults.catalogue import NotRun

SOURCE = Path(__file__).with_name("shim.c")


class Shim:
    """A library for LD_PRELOAD and the file that steers it."""

    def __init__(self, folder: Path, disk: str = "") -> None:
        cc = shutil.which("cc") or shutil.which("gcc")
        if cc is None:
            raise NotRun("no C compiler here to build the wrapper around the clock")
        library, self._file = folder / "shim.so", folder / "shim.dat"
        subprocess.run([cc, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"], check=True)
        self._values = [0, 0, 0]
        self._file.write_bytes(struct.pack("<3q", 0, 0, 0))
        self.env = {
            "LD_PRELOAD": str(library), "SHIM_FILE": str(self._file), "SHIM_BASE": str(time.monotonic_ns()),
            "SHIM_DISK": disk,
        }  # fmt: skip

    def _set(self, index: int, value: int) -> None:
        with self._file.open("r+b") as f:  # in place: the daemon has it mapped
            f.seek(8 * index)
            f.write(struct.pack("<q", value))

    def step(self, seconds: float) -> None:
        """CLOCK_REALTIME is so much ahead."""
        self._set(0, round(seconds * 1e9))

    def drift(self, ppm: int) -> None:
        """CLOCK_MONOTONIC is so much fast; set it before the start."""
        self._set(1, ppm)

    def break_sync(self, broken: bool) -> None:
        """Whether fsync and fdatasync of files under ``disk`` fail with EIO."""
        self._set(2, int(broken))
