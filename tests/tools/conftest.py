"""A daemon's records of one recording, saved as ``tonald listen --save`` saves them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from calibration.ocean import SCENARIOS, simulate
from daemon.config import Config
from daemon.record_file import RecordFile
from daemon.service import Service
from daemon.subscriber import Subscriber

FS = 8000


def listen(config: Config, saved: Path) -> list:
    """All messages of a run that ends by itself, also saved."""
    service = Service(config)
    service.start()
    messages = []
    with Subscriber(config.publish.endpoints[0]) as subscriber, RecordFile(saved) as file:
        while (message := subscriber.receive(60.0)) is not None:
            messages.append(message)
            file.add(subscriber.frames)
            if message.family == "status" and message.body["final"]:
                break
    service.stop()
    service.raise_failure()
    return messages


@pytest.fixture(scope="session")
def heard(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """30 s of a simulated vessel in 24 bits, with its time in its name, and what a daemon said of it."""
    soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")
    folder = tmp_path_factory.mktemp("heard")
    sim = simulate(SCENARIOS["standard"], "test", 900, "vessel_1", 30.0, FS)
    x = np.rint(sim.x * 2**23) / 2**23
    recording = folder / "20261123T174500Z.wav"
    soundfile.write(recording, (x.T * 2**31).astype(np.int32), FS, subtype="PCM_24")
    config = Config.parse(
        f'[source]\nkind = "file"\npath = "{recording}"\n'
        f'[publish]\nendpoints = ["ipc://{folder}/out"]\nwait_subscriber_s = 30.0\n'
    )
    saved = folder / "records"
    messages = listen(config, saved)
    return SimpleNamespace(recording=recording, records=saved, messages=messages, x=x.astype(np.float32), fs=FS)
