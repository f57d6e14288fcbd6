"""From a real sound system to the right signature: JACK, PortAudio, capture child, daemon, socket."""

import ctypes
import ctypes.util
import importlib.util
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from calibration.ocean import SCENARIOS, simulate
from daemon.config import Config, PublishConfig, SourceConfig
from daemon.digest import digest_of
from daemon.frames import AudioBlock
from daemon.service import Service
from daemon.wire import Message
from tests.counter_signal import decode
from tests.jack_server import FS, Jack

pytestmark = pytest.mark.skipif(
    shutil.which("jackd") is None
    or ctypes.util.find_library("portaudio") is None
    or any(importlib.util.find_spec(m) is None for m in ("jack", "sounddevice")),
    reason="jackd2 and libportaudio2 ('make system'), JACK-Client and sounddevice are needed",
)


ATTEMPTS = 3
SERVER_LOST = "the clock shows lost samples that the card did not tell of"
"""A virtual machine that itself stands still loses samples in the server, which no sound card does: told, as it must
be, and tried again."""


def _listened(tmp_path: Path, server: Jack) -> tuple[list[Message], list[AudioBlock]]:
    """What a daemon publishes of it, and what it took, while the main process stalls again and again."""
    messages, blocks = [], []
    service = Service(
        Config(
            source=SourceConfig(kind="device", device="hydro", channels=(0, 1)),
            publish=PublishConfig(endpoints=(f"ipc://{tmp_path}/out",)),
        ),
        messages.append,
    )
    hold = ctypes.PyDLL(None).usleep  # PyDLL keeps the GIL while it calls
    try:
        server.up()
        service.start()
        read = service.source.read

        def tee(timeout_s: float) -> object:
            event = read(timeout_s)
            if isinstance(event, AudioBlock):
                blocks.append(event)
            return event

        service.source.read = tee
        end = time.monotonic() + 60
        while time.monotonic() < end and sum(m.family == "window" for m in messages) < 8:
            hold(300_000)
            time.sleep(0.7)
        service.stop()
    finally:
        server.clean()
    assert service.failure is None
    return messages, blocks


def test_hydrophone_on_jack_gives_the_right_signature_while_the_main_process_stalls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(SCENARIOS["standard"], "test", 901, "vessel_2", 30.0, FS)
    np.save(tmp_path / "sea.npy", sim.x[0])
    server = Jack(f"tonald{os.getpid()}s", str(tmp_path / "sea.npy"))
    monkeypatch.setenv("JACK_DEFAULT_SERVER", server.name)
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    for _ in range(ATTEMPTS):
        messages, blocks = _listened(tmp_path, server)
        if not any(m.family == "gap" and m.body["reason"] == SERVER_LOST for m in messages):
            break
    windows = [m.body for m in messages if m.family == "window" and m.body["channel"] == "ch0"]
    assert len(windows) >= 4
    assert all(w["analysed"] for w in windows)
    assert not [m for m in messages if m.family == "gap"]
    # sample by sample: the counter on the other channel says where in the recording each block was taken
    x = np.concatenate([b.x for b in blocks], axis=1)
    place = decode(x[1])
    assert np.all(np.diff(place) == 1)  # the counter turns over after 350 s
    np.testing.assert_array_equal(x[0], sim.x[0][place % sim.x.shape[1]])
    n_before = blocks[0].first_sample
    for w in windows:
        first = w["first_sample"] - n_before
        if first >= 0:
            assert w["audio_digest"] == digest_of(x[0, first : first + w["n_samples"]], FS)
    said = Counter(d["label"] for w in windows for d in w["detections"])
    assert said.most_common(1)[0][0] == "vessel_2", said
    signatures = [m.body for m in messages if m.family == "signature" and m.body["label"] == "vessel_2"]
    true_hz = [float(np.median(line.f_hz)) for line in sim.truth.lines if line.label == "vessel_2"]
    found = [line["freq_hz"] for s in signatures for line in s["lines"]]
    near = [f for f in found if min(abs(f - t) for t in true_hz) < 3.0]
    assert len(near) >= 0.7 * len(found) > 0
