"""What a process of the pool of this machine does before its first recording; Dask calls ``dask_setup``."""

from __future__ import annotations

import os
import signal

__all__ = ["dask_setup"]


def dask_setup(_worker: object) -> None:
    """Leave Ctrl-C to the parent, which ends its workers itself, and give way to whatever else runs here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)
