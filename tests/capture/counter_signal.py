"""An exact 24-bit sample counter as a signal, and how to read it back; also the hydrophone of the JACK tests.

Each lost, repeated or altered sample is seen. Run as a script it is a JACK client ``hydro`` with two
outputs, +n and -n.
"""

from __future__ import annotations

import signal
import sys
import threading

import numpy as np

N_COUNTER = 1 << 24
HALF = 1 << 23


def ramp(first: int, n: int) -> np.ndarray:
    return ((np.arange(first, first + n) % N_COUNTER).astype(np.float32) / np.float32(HALF)) - np.float32(1)


def decode(x: np.ndarray) -> np.ndarray:
    return np.rint((x.astype(np.float64) + 1) * HALF).astype(np.int64)


def play() -> None:
    import jack

    client = jack.Client("hydro", no_start_server=True)
    outs = [client.outports.register(f"out_{i}") for i in range(2)]
    done = threading.Event()
    position = 0

    @client.set_process_callback
    def on_cycle(n: int) -> None:
        nonlocal position
        x = ramp(position, n)
        outs[0].get_array()[:] = x
        outs[1].get_array()[:] = -x
        position += n

    client.set_shutdown_callback(lambda *a: done.set())
    signal.signal(signal.SIGTERM, lambda *a: done.set())
    client.activate()
    sys.stdout.write("up\n")
    sys.stdout.flush()
    while not done.wait(0.2):
        pass


if __name__ == "__main__":
    play()
