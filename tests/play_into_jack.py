"""A JACK client ``hydro`` with two outputs, run as a script.

Without a word it plays the counter, +n and -n. With ``FILE.npy`` (float32) it plays the file, over and over, and +n.
"""

from __future__ import annotations

import signal
import sys
import threading

import jack
import numpy as np
from counter_signal import ramp  # a neighbour: a script's own folder leads its path


def main() -> None:
    x = np.load(sys.argv[1]) if len(sys.argv) > 1 else None
    client = jack.Client("hydro", no_start_server=True)
    outs = [client.outports.register(f"out_{i}") for i in range(2)]
    done = threading.Event()
    position = 0

    @client.set_process_callback
    def on_cycle(n: int) -> None:
        nonlocal position
        counter = ramp(position, n)
        first, second = (counter, -counter) if x is None else (x[(position + np.arange(n)) % x.size], counter)
        outs[0].get_array()[:] = first
        outs[1].get_array()[:] = second
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
