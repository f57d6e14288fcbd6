"""A card that is lost while PortAudio says nothing: silence, stuck values, another device or rate; all provoked."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from daemon.frames import AudioBlock, Gap, SourceState, StreamEnd, StreamStart
from daemon.sources.portaudio import PortAudioSource
from models.errors import DeviceError
from tests import counter_signal, jack_server
from tests.capture.test_portaudio_source import (  # noqa: F401  (fixtures; skips this module, too)
    FS,
    alsa,
    assert_counts_on,
    jack,
    need_alsa,
    need_jack,
    read_for,
    samples,
)
from tests.jack_server import Jack

ROOT = Path(__file__).parents[2]
BACKOFF = (0.2, 1.0)


def of(events: list, kind: type) -> list:
    return [e for e in events if isinstance(e, kind)]


def played_by(server: Jack) -> subprocess.Popen:
    player = subprocess.Popen(server.script, env=server.env, stdout=subprocess.PIPE, text=True)
    assert player.stdout.readline().strip() == "up"
    return player


@need_jack
def test_player_that_goes_leaves_zeros_and_the_card_is_lost_until_it_plays_again(jack: Jack) -> None:  # noqa: F811
    source = PortAudioSource("hydro", fs=FS, channels=[0, 1], backoff_s=BACKOFF)
    try:
        events = read_for(source, 10.0, until=AudioBlock) + read_for(source, 1.0)
        jack._end(jack.player)
        events += read_for(source, 30.0, until=SourceState)
        assert of(events, StreamEnd)[0].problem == "no signal: all samples are 0, on all channels for 2 s"
        assert events[-1].state == "waiting"
        waiting = read_for(source, 3.0)
        assert {type(e) for e in waiting} == {SourceState}
        assert {e.state for e in waiting} == {"waiting"}
        assert waiting[-1].n_retries > 1
        jack.player = played_by(jack)
        back = read_for(source, 30.0, until=StreamStart) + read_for(source, 1.0)
    finally:
        source.close()
    assert [e.state for e in of(back, SourceState)][-1] == "running"
    (gap,) = of(back, Gap)
    assert (gap.epoch, gap.n_missing) == (0, None)
    assert gap.first_sample == of(events, StreamEnd)[0].n_samples
    assert {e.epoch for e in of(back, AudioBlock)} == {1}
    assert_counts_on(samples(back))  # from the first sample on: the zeros before are in the gap


FAULTS = {
    "all samples are 0": lambda n: np.zeros(n),
    "all samples have the same value": lambda n: np.full(n, 0.25),
    "samples that are no numbers": lambda n: np.full(n, np.nan),
    "the same block again and again": lambda n: np.resize(np.random.default_rng(0).normal(0, 0.1, 1024), n),
}


def write_raw(folder: Path, heard_s: float, words: str) -> None:
    """Counter for so long, then a fault."""
    x = np.concatenate([counter_signal.ramp(0, round(heard_s * FS)), FAULTS[words](10 * FS)])
    (folder / "ramp.raw").write_bytes(np.column_stack([x, -x]).astype("<f4").tobytes())


@need_alsa
@pytest.mark.parametrize("words", FAULTS)
def test_card_that_gives_no_signal_is_replaced_and_taken_from_where_it_is_heard(alsa: Path, words: str) -> None:  # noqa: F811
    write_raw(alsa, 2.0, words)
    source = PortAudioSource("fore", fs=FS, channels=[0, 1], pace=2.0, backoff_s=BACKOFF)
    try:
        events = read_for(source, 20.0, until=SourceState)
        first = source.child_pid
        events += read_for(source, 20.0, until=StreamStart) + read_for(source, 10.0, until=AudioBlock)
        assert source.child_pid != first
    finally:
        source.close()
    end, waiting, gap, running, start = [e for e in events if not isinstance(e, AudioBlock)][1:]
    assert words in end.problem
    assert (waiting.state, running.state, start.epoch) == ("waiting", "running", 1)
    assert words in gap.reason
    assert of(events, AudioBlock)[-1].x[0, 0] == np.float32(-1.0)  # the counter's first


@need_alsa
def test_device_that_never_gives_signal_is_waited_for_at_growing_distance(
    alsa: Path,  # noqa: F811
) -> None:
    conf = alsa / "asound.conf"
    conf.write_text(
        "</usr/share/alsa/alsa.conf>\n"
        'pcm.hydro_null { type null hint { show on description "hydro_null" } }\n'
    )  # fmt: skip
    source = PortAudioSource("null", fs=FS, channels=[0], pace=1.0, silent_s=0.5, backoff_s=(0.1, 0.2))
    try:
        events = read_for(source, 30.0, until=SourceState)
        for _ in range(2):
            events += read_for(source, 30.0, until=SourceState)
    finally:
        source.close()
    assert [e.epoch for e in of(events, StreamStart)] == [0]
    assert [e.state for e in of(events, SourceState)] == ["waiting"] * 3
    assert [e.n_retries for e in of(events, SourceState)] == [1, 2, 3]
    assert not of(events, Gap)  # told when it is over: one, of known length


@need_alsa
def test_waits_between_lives_that_are_short_grow(alsa: Path) -> None:  # noqa: F811
    source = PortAudioSource("fore", fs=FS, channels=[0], pace=1.0, backoff_s=(0.3, 1.2))
    gaps: list[Gap] = []
    try:
        for _ in range(3):
            read_for(source, 20.0, until=AudioBlock)
            os.kill(source.child_pid, signal.SIGKILL)
            gaps += of(read_for(source, 20.0, until=StreamStart), Gap)
    finally:
        source.close()
    assert [g.duration_ns >= s * 1e9 for g, s in zip(gaps, (0.3, 0.6, 1.2), strict=True)] == [True] * 3


@need_alsa
def test_loss_with_policy_exit_raises_after_all_was_given(alsa: Path) -> None:  # noqa: F811
    source = PortAudioSource("fore", fs=FS, channels=[0], pace=1.0, on_loss="exit")
    try:
        read_for(source, 10.0, until=AudioBlock)
        os.kill(source.child_pid, signal.SIGKILL)
        assert "signal 9" in read_for(source, 10.0, until=StreamEnd)[-1].problem
        with pytest.raises(DeviceError, match=r"sound card 'fore' is lost: .*signal 9.*source.on_loss = 'exit'"):
            read_for(source, 10.0)
    finally:
        source.close()


@need_alsa
def test_loss_with_policy_pause_stays_off_until_resumed(alsa: Path) -> None:  # noqa: F811
    source = PortAudioSource("fore", fs=FS, channels=[0], pace=1.0, on_loss="pause", backoff_s=(0.05, 0.05))
    try:
        read_for(source, 10.0, until=AudioBlock)
        os.kill(source.child_pid, signal.SIGKILL)
        (state,) = of(read_for(source, 10.0, until=SourceState), SourceState)
        assert state.state == "waiting"
        assert "paused (source.on_loss): SIGHUP" in state.detail
        assert read_for(source, 2.0) == []
        assert source.child_pid is None
        source.resume()
        assert of(read_for(source, 20.0, until=StreamStart), StreamStart)
    finally:
        source.close()


@need_alsa
def test_other_device_that_the_pattern_now_means_is_not_taken(alsa: Path) -> None:  # noqa: F811
    conf = alsa / "asound.conf"
    whole = conf.read_text()
    source = PortAudioSource("fore", fs=FS, channels=[0], pace=1.0, backoff_s=(0.1, 0.2))
    try:
        read_for(source, 10.0, until=AudioBlock)
        conf.write_text(whole.replace("hydro_fore", "hydro_foreign"))
        os.kill(source.child_pid, signal.SIGKILL)
        read_for(source, 10.0, until=SourceState)
        state = read_for(source, 20.0, until=SourceState)[-1]
        assert state.state == "waiting"
        assert "'hydro_fore (ALSA)' is gone; 'fore' now means 'hydro_foreign'" in state.detail
        conf.write_text(whole)
        assert read_for(source, 20.0, until=StreamStart)[-1].label == "hydro_fore (ALSA)"
    finally:
        source.close()


@need_alsa
def test_usb_id_that_no_card_has_is_refused_before_portaudio_is_asked(alsa: Path) -> None:  # noqa: F811
    with pytest.raises(DeviceError, match="no sound card is usb:dead:beef; cards in /proc/asound/cards: "):
        PortAudioSource("usb:dead:beef", fs=FS)


@need_jack
def test_server_that_comes_back_at_another_rate_is_an_error_until_it_is_set_right(
    jack: Jack,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = PortAudioSource("hydro", fs=FS, channels=[0], backoff_s=BACKOFF)
    try:
        read_for(source, 10.0, until=AudioBlock)
        jack.down()
        read_for(source, 20.0, until=SourceState)
        monkeypatch.setattr(jack_server, "FS", 44_100)
        jack.up()
        end = time.monotonic() + 60
        state = None
        while time.monotonic() < end and (state is None or state.state != "refused"):
            (state,) = of(read_for(source, 20.0, until=SourceState), SourceState)
        assert state.state == "refused"
        assert "at 48000 Hz" in state.detail
        jack.down()
        monkeypatch.setattr(jack_server, "FS", FS)
        jack.up()
        start = read_for(source, 60.0, until=StreamStart)[-1]
        assert (start.fs, start.epoch) == (FS, 1)
    finally:
        source.close()


@need_jack
def test_nothing_is_lost_while_the_main_process_holds_the_gil_for_three_seconds(jack: Jack) -> None:  # noqa: F811
    libc = ctypes.PyDLL(None)  # PyDLL keeps the GIL while it calls
    source = PortAudioSource("hydro", channels=[0, 1])
    try:
        events = read_for(source, 1.0)
        libc.usleep(3_000_000)
        events += read_for(source, 2.0)
    finally:
        source.close()
    assert [e.reason for e in of(events, Gap)] == []
    assert len(of(events, StreamStart)) == 1
    assert samples(events).shape[1] > 4 * FS
    assert_counts_on(samples(events))


@need_jack
def test_daemon_with_policy_exit_ends_with_code_69_when_its_card_goes(jack: Jack, tmp_path: Path) -> None:  # noqa: F811
    config = tmp_path / "tonald.toml"
    config.write_text(
        '[source]\nkind = "device"\ndevice = "hydro"\non_loss = "exit"\n'
        f'[publish]\nendpoints = ["ipc://{tmp_path}/out"]\n'
    )  # fmt: skip
    daemon = subprocess.Popen(
        [sys.executable, "-m", "daemon", "run", "--config", str(config), "--verbose"],
        cwd=ROOT, env=jack.env | {"JACK_NO_START_SERVER": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert "running" in daemon.stdout.readline()
        jack.server.kill()
        _, errors = daemon.communicate(timeout=60)
    finally:
        daemon.kill()
        daemon.wait()
    assert daemon.returncode == 69, errors
    assert "sound card 'hydro' is lost" in errors
