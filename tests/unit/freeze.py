"""Stops single threads of a running process by ptrace: a real hang, of which the process itself knows nothing.

``python -m tests.unit.freeze PID`` stops every thread but the first, says how many, and stays until the process is
dead: the kernel keeps a traced thread until its tracer has seen it end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

SEIZE, INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000


def main(pid: int) -> int:
    """Freeze, report, wait."""
    libc = ctypes.CDLL(None, use_errno=True)
    threads = [int(t.name) for t in Path(f"/proc/{pid}/task").iterdir() if int(t.name) != pid]
    for request in (SEIZE, INTERRUPT):
        for thread in threads:
            if libc.ptrace(request, thread, None, None) < 0:
                say(f"ptrace of thread {thread}: {os.strerror(ctypes.get_errno())}")
                return 1
    say(str(len(threads)))
    with contextlib.suppress(ChildProcessError):  # all of them have ended
        while True:
            os.waitpid(-1, WALL)
    return 0


def say(line: str) -> None:
    """Print it now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
