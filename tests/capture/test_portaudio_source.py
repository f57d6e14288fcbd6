"""Real PortAudio, no sound card: the ALSA ``file`` plugin, and ``jackd -d dummy`` with a client as hydrophone."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from daemon.commands.devices import input_devices
from daemon.frames import AudioBlock, Event, Gap, SourceState, StreamEnd, StreamStart
from daemon.sources.portaudio import PortAudioSource
from models.errors import DeviceError
from tests import counter_signal
from tests.jack_server import Jack

FS = 48_000
if sys.platform != "linux":
    pytest.skip("ALSA and jackd are of Linux", allow_module_level=True)
if importlib.util.find_spec("sounddevice") is None:
    pytest.skip("sounddevice is not installed (extra 'audio')", allow_module_level=True)
if ctypes.util.find_library("portaudio") is None:
    pytest.skip("libportaudio2 is not installed ('make system')", allow_module_level=True)
need_alsa = pytest.mark.skipif(
    not Path("/usr/share/alsa/alsa.conf").exists(), reason="libasound2 is not installed ('make system')"
)
need_jack = pytest.mark.skipif(
    shutil.which("jackd") is None or importlib.util.find_spec("jack") is None,
    reason="jackd2 ('make system') or JACK-Client is not installed",
)


def read_for(source: PortAudioSource, seconds: float, until: type | None = None) -> list[Event]:
    events: list[Event] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (until and events and isinstance(events[-1], until)):
        if (event := source.read(0.25)) is not None:
            events.append(event)
    return events


def samples(events: list[Event]) -> np.ndarray:
    return np.concatenate([e.x for e in events if isinstance(e, AudioBlock)], axis=1)


def assert_counts_on(x: np.ndarray) -> None:
    """Two channels, +n and -n, without a sample lost, repeated or altered."""
    steps = np.diff(counter_signal.decode(x[0]))
    assert np.all((steps == 1) | (steps == 1 - counter_signal.N_COUNTER)), steps[steps != 1][:10]
    np.testing.assert_array_equal(x[1], -x[0])


def gone(pid: int, within_s: float) -> bool:
    """Whether the process has ended (a zombie of another parent has)."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


# ALSA file plugin: bit-exact, no daemon. It has no clock, so the child is told to hold it back (pace).


@pytest.fixture
def alsa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    raw = tmp_path / "ramp.raw"
    n = counter_signal.ramp(0, 20 * FS)
    raw.write_bytes(np.column_stack([n, -n]).astype("<f4").tobytes())
    conf = tmp_path / "asound.conf"
    conf.write_text(
        "</usr/share/alsa/alsa.conf>\n"
        + "".join(
            f'pcm.{name} {{ type file slave.pcm {{ type null }} file "/dev/null" infile "{raw}" format "raw" '
            f'hint {{ show on description "{name}" }} }}\n'
            for name in ("hydro_fore", "hydro_aft")
        )
    )
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(conf))
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    return tmp_path


@need_alsa
def test_source_on_alsa_file_plugin_is_bit_exact(alsa: Path) -> None:
    source = PortAudioSource("fore", fs=FS, channels=[0, 1], pace=4.0)
    try:
        events = read_for(source, 2.0)
    finally:
        source.close()
        source.close()
    start, *rest = events
    assert isinstance(start, StreamStart)
    assert (start.fs, start.channels, start.label) == (FS, ("ch0", "ch1"), "hydro_fore (ALSA)")
    assert all(isinstance(e, AudioBlock) for e in rest)
    x = samples(events)
    assert x.shape[1] > FS  # at four times real time more than 1 s in 2 s, however busy the machine
    np.testing.assert_array_equal(x[0], counter_signal.ramp(0, x.shape[1]))
    np.testing.assert_array_equal(x[1], -x[0])
    assert [e.first_sample for e in rest] == list(np.cumsum([0, *(e.n_samples for e in rest[:-1])]))
    assert not any(e.x.flags.writeable for e in rest)
    assert source.read(0.0) is None


@need_alsa
def test_source_with_channels_picks_columns_without_downmix(alsa: Path) -> None:
    source = PortAudioSource("fore", fs=FS, channels=[1], pace=4.0)
    try:
        events = read_for(source, 5.0, until=AudioBlock)
    finally:
        source.close()
    x = samples(events)
    assert events[0].channels == ("ch1",)
    np.testing.assert_array_equal(x[0], -counter_signal.ramp(0, x.shape[1]))


@need_alsa
def test_source_whose_reader_is_away_counts_what_the_ring_lost(alsa: Path) -> None:
    source = PortAudioSource("fore", fs=FS, channels=[0, 1], pace=4.0, ring_s=1.0)
    try:
        events = read_for(source, 5.0, until=AudioBlock)
        time.sleep(1.0)  # 4 s of audio at this pace, the ring holds 1 s
        events += read_for(source, 5.0, until=Gap)
        events += read_for(source, 5.0, until=AudioBlock)
    finally:
        source.close()
    (gap,) = [e for e in events if isinstance(e, Gap)]
    assert gap.n_missing > 2 * FS
    assert "read too late" in gap.reason
    position = 0
    for e in events[1:]:
        assert e.first_sample == position
        if isinstance(e, AudioBlock):
            np.testing.assert_array_equal(e.x[0], counter_signal.ramp(position, e.n_samples))
        position += e.n_samples if isinstance(e, AudioBlock) else e.n_missing


@need_alsa
@pytest.mark.parametrize(
    ("device", "options", "words"),
    [
        ("towed", {}, "no input device matches 'towed'; input devices: .*hydro_fore.*hydro_aft"),
        ("hydro", {}, "'hydro' means 2 input devices"),
        ("fore", {"channels": [500]}, r"has no channel \[500\]: its channels are 0 to"),
    ],
)
def test_source_that_cannot_be_had_says_what_there_is(alsa: Path, device: str, options: dict, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        PortAudioSource(device, fs=FS, **options)


@need_alsa
def test_source_that_waits_for_an_absent_device_takes_it_when_it_comes(alsa: Path) -> None:
    conf = alsa / "asound.conf"
    whole = conf.read_text()
    conf.write_text("</usr/share/alsa/alsa.conf>\n")
    source = PortAudioSource("fore", fs=FS, channels=[0], pace=4.0, on_absent="wait", backoff_s=(0.1, 0.2))
    try:
        events = read_for(source, 10.0, until=SourceState)
        assert events[-1].state == "waiting"
        assert "no input device matches" in events[-1].detail
        more = read_for(source, 3.0, until=SourceState)
        assert more[-1].n_retries > events[-1].n_retries
        conf.write_text(whole)
        events = read_for(source, 20.0, until=AudioBlock)
    finally:
        source.close()
    assert [e.state for e in events if isinstance(e, SourceState)][-1] == "running"
    assert isinstance(events[-1], AudioBlock)


@need_alsa
def test_source_whose_child_is_killed_gets_another_and_says_so(alsa: Path) -> None:
    source = PortAudioSource("fore", fs=FS, channels=[0, 1], pace=1.0, backoff_s=(0.1, 0.2))
    try:
        events = read_for(source, 5.0, until=AudioBlock)
        first = source.child_pid
        os.kill(first, signal.SIGKILL)
        events += read_for(source, 10.0, until=StreamStart)
        events += read_for(source, 5.0, until=AudioBlock)
        assert source.child_pid != first
    finally:
        source.close()
    kinds = [type(e).__name__ for e in events if not isinstance(e, AudioBlock)]
    assert kinds == ["StreamStart", "StreamEnd", "SourceState", "Gap", "SourceState", "StreamStart"]
    end, waiting, gap, running, start = [e for e in events if not isinstance(e, AudioBlock)][1:]
    assert "signal 9" in end.problem
    assert (waiting.state, running.state, start.epoch) == ("waiting", "running", 1)
    assert (gap.epoch, gap.n_missing, gap.first_sample) == (0, None, end.n_samples)
    assert 0 < gap.duration_ns < 10e9
    last = [e for e in events if isinstance(e, AudioBlock)]
    assert (last[-1].epoch, last[-1].first_sample) == (1, 0)
    assert end.n_samples == sum(e.n_samples for e in last if e.epoch == 0)


@need_alsa
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_that_ask_a_whole_group_to_stop_do_not_take_the_card_away(alsa: Path, number: int) -> None:
    """A terminal and a service manager ask all processes at once; the parent decides, and drains first."""
    source = PortAudioSource("fore", fs=FS, channels=[0, 1], pace=1.0, backoff_s=(0.1, 0.2))
    try:
        events = read_for(source, 5.0, until=AudioBlock)
        first = source.child_pid
        os.kill(first, number)
        events += read_for(source, 2.0)
        assert source.child_pid == first
    finally:
        source.close()
    assert [type(e).__name__ for e in events if not isinstance(e, AudioBlock)] == ["StreamStart"]
    assert sum(e.n_samples for e in events if isinstance(e, AudioBlock)) > FS


@need_alsa
def test_parent_killed_leaves_no_child(alsa: Path) -> None:
    code = (
        "import time; from daemon.sources.portaudio import PortAudioSource\n"
        "s = PortAudioSource('fore', fs=48000, channels=[0], pace=1.0); print(s.child_pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        child = int(parent.stdout.readline())
        assert not gone(child, 0.2)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert gone(child, 5.0)


@need_alsa
def test_devices_lists_what_alsa_has(alsa: Path) -> None:
    assert {(d.name, d.host_api) for d in input_devices()} == {("hydro_fore", "ALSA"), ("hydro_aft", "ALSA")}


# JACK: a server with a real-time clock that can be killed.


@pytest.fixture
def jack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Jack]:
    name = f"tonald{os.getpid()}x{time.monotonic_ns() % 1_000_000}"
    server = Jack(name)
    monkeypatch.setenv("JACK_DEFAULT_SERVER", server.name)
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    try:
        server.up()
        yield server
    finally:
        server.clean()


@need_jack
def test_source_on_jack_loses_nothing_while_the_main_process_holds_the_gil(jack: Jack) -> None:
    libc = ctypes.PyDLL(None)  # PyDLL keeps the GIL while it calls
    source = PortAudioSource("hydro", channels=[0, 1])
    try:
        events = read_for(source, 1.0)
        for _ in range(3):
            libc.usleep(300_000)
            events += read_for(source, 0.7)
    finally:
        source.close()
    assert [type(e) for e in events if not isinstance(e, AudioBlock)] == [StreamStart]
    assert events[0].fs == FS
    x = samples(events)
    assert x.shape[1] > 2 * FS
    assert_counts_on(x)


@need_jack
def test_source_refuses_a_rate_that_the_server_does_not_run_at(jack: Jack) -> None:
    with pytest.raises(DeviceError, match=r"does not open with 1 channel.* at 44100 Hz"):
        PortAudioSource("hydro", fs=44_100, channels=[0])


@need_jack
@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_source_whose_server_dies_or_freezes_notices_and_resumes(jack: Jack, how: int) -> None:
    source = PortAudioSource("hydro", fs=FS, channels=[0, 1], backoff_s=(0.5, 1.0))
    try:
        events = read_for(source, 10.0, until=AudioBlock) + read_for(source, 1.0)
        jack.server.send_signal(how)
        t_dead = time.monotonic()
        events += read_for(source, 20.0, until=SourceState)
        noticed_s = time.monotonic() - t_dead
        first = [e for e in events if isinstance(e, AudioBlock)]
        jack.down()
        jack.up()
        t_back = time.monotonic()
        events = events[-2:] + read_for(source, 30.0, until=StreamStart)
        back_s = time.monotonic() - t_back
        events += read_for(source, 1.0)
    finally:
        source.close()
    assert_counts_on(samples(first))
    end, waiting = events[:2]
    assert isinstance(end, StreamEnd)
    assert waiting.state == "waiting"
    second = [e for e in events if isinstance(e, AudioBlock)]
    (epoch,) = {e.epoch for e in second}  # one, and another than before: a machine that stalls may cost one between
    assert epoch > end.epoch
    assert_counts_on(samples(second))
    gaps = [e for e in events if isinstance(e, Gap)]
    assert gaps
    assert all(g.n_missing is None for g in gaps)
    # the promise is 2 s to notice and 5 s to resume; a busy machine may be late by as much again, not for ever
    assert noticed_s < 4
    assert back_s < 10
    sys.stdout.write(f"noticed after {noticed_s:.2f} s, resumed {back_s:.2f} s after the server was back\n")
