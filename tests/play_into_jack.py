"""A JACK client ``hydro``: plays ``FILE.npy`` (float32) on one output and an exact sample counter on the other."""

from __future__ import annotations

import signal
import sys
import threading

import jack
import numpy as np

N_COUNTER = 1 << 24


def counter(first: int, n: int) -> np.ndarray:
    """Samples ``first..first + n`` of the counter, exact in float32."""
    return ((np.arange(first, first + n) % N_COUNTER) / (N_COUNTER / 2) - 1).astype(np.float32)


def main() -> None:
    x = np.load(sys.argv[1])
    client = jack.Client("hydro", no_start_server=True)
    outs = [client.outports.register(f"out_{i}") for i in range(2)]
    done = threading.Event()
    position = 0

    @client.set_process_callback
    def on_cycle(n: int) -> None:
        nonlocal position
        outs[0].get_array()[:] = x[(position + np.arange(n)) % x.size]
        outs[1].get_array()[:] = counter(position, n)
        position += n

    client.set_shutdown_callback(lambda *_: done.set())
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    client.activate()
    sys.stdout.write("up\n")
    sys.stdout.flush()
    while not done.wait(0.2):
        pass


if __name__ == "__main__":
    main()
