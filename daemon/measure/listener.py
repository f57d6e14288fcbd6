"""The subscriber of ``tonald bench latency``, a process of its own: notes when each message came.

Words: ``ENDPOINT FILE``. Writes one JSON line per ``window/`` and ``signature/`` message with CLOCK_MONOTONIC, ns,
taken when it was decoded; ends when its standard input closes, with a last line that says how many were lost.
"""

from __future__ import annotations

import json
import select
import time
from pathlib import Path

from daemon.subscriber import Subscriber

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Listen."""
    endpoint, path = argv
    with (
        Path(path).open("w", buffering=1, encoding="utf-8") as out,
        Subscriber(endpoint, ("window/", "signature/")) as subscriber,
    ):
        while not select.select([0], [], [], 0.0)[0]:
            message = subscriber.receive(0.1)
            t_ns = time.monotonic_ns()
            if message is not None:
                b = message.body
                row = [message.family, b["channel"], b["epoch"], b["first_sample"], b["n_samples"], t_ns]
                out.write(json.dumps(row) + "\n")
        out.write(json.dumps(["lost", subscriber.losses.n_lost]) + "\n")
    return 0
