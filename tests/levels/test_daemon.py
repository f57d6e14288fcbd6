"""Levels through the whole daemon: a tone of known pressure in a file comes out with the textbook level."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.hydrophone import Hydrophone
from daemon.config import Config, PublishConfig, SourceConfig
from daemon.service import Service
from daemon.wire import Message

soundfile = pytest.importorskip("soundfile")

CHAIN = Hydrophone(channel="ch0", sensitivity_db=-165.0, gain_db=26.0, adc_vpeak=1.5)
RESPONSE = dataclasses.replace(CHAIN, response_hz=(20.0, 200.0, 450.0), response_db=(-12.0, 0.0, 3.0))
TONES = dict.fromkeys((62.0, 111.3, 187.5, 251.0, 290.2, 333.37, 402.9, 455.1), 0.01)
"""Together they are heard as unknown; 42 dB in the bin over noise of 1e-3."""
MEANT = {"level_db_re_1upa", "noise_db_re_1upa2_per_hz", "calibration_id", "publisher"}


def run(path: Path, tmp_path: Path, *chains: Hydrophone) -> list[Message]:
    got: list[Message] = []
    config = Config(
        source=SourceConfig(kind="file", path=str(path)), hydrophone=chains,
        publish=PublishConfig(endpoints=(f"ipc://{tmp_path}/out",)),
    )  # fmt: skip
    service = Service(config, got.append)
    service.start()
    try:
        assert service.finished.wait(300)
    finally:
        service.stop()
    service.raise_failure()
    return got


def write(path: Path, fs: int, tones: dict[float, float], noise: float, seconds: float = 11.0, seed: int = 0) -> Path:
    """A file of tones of the given amplitudes, 24 bits."""
    t = np.arange(round(fs * seconds)) / fs
    x = sum(a * np.sin(2 * np.pi * f * t + f) for f, a in tones.items())
    x = x + np.random.default_rng(seed).normal(0.0, noise, t.size) * math.sqrt(fs / 2000)
    soundfile.write(path, x, fs, subtype="PCM_24")
    return path


def lines_of(messages: list[Message]) -> list[dict[str, Any]]:
    """Lines of all signatures; the tones are many, so that the windows are heard as unknown."""
    return [line for m in messages if m.family == "signature" for line in m.body["lines"]]


@pytest.mark.parametrize("fs", [2000, 8000, 44100, 48000])
def test_tones_have_their_textbook_level(tmp_path: Path, fs: int) -> None:
    tones = {62.0: 0.1, 111.3: 0.02, 187.5: 0.05, 251.0: 0.01, 333.37: 0.1, 402.9: 0.03}
    messages = run(write(tmp_path / "t.wav", fs, tones, 1e-4), tmp_path, RESPONSE)
    lines = lines_of(messages)
    for f, a in tones.items():
        # of a sine of amplitude a: 20 lg(a / sqrt 2) re FS, then the chain term by term
        wanted = 20 * math.log10(a / math.sqrt(2) * 1.5) + 165.0 - 26.0 - float(RESPONSE.response(f))
        found = [x["level_db_re_1upa"] for x in lines if abs(x["freq_hz"] - f) < 0.2]
        assert found
        np.testing.assert_allclose(found, wanted, atol=0.1, err_msg=f"{f} Hz at {fs} Hz")


@pytest.mark.parametrize("fs", [2000, 32000])
@pytest.mark.parametrize("freq_hz", [40.0, 101.0, 299.61])
def test_window_of_a_full_scale_sine_has_the_level_that_is_printed(tmp_path: Path, fs: int, freq_hz: float) -> None:
    path = write(tmp_path / "t.wav", fs, {freq_hz: 1.0 - 2**-20}, 0.0)
    plain, with_table = run(path, tmp_path, CHAIN), run(path, tmp_path, RESPONSE)
    levels = [m.body["level_db_re_1upa"] for m in plain if m.family == "window"]
    np.testing.assert_allclose(levels, CHAIN.full_scale_sine_db, atol=0.1)
    assert f"{CHAIN.full_scale_sine_db:.1f} dB re 1 uPa (mean square)" in CHAIN.words(10.0, 512.0)
    levels = [m.body["level_db_re_1upa"] for m in with_table if m.family == "window"]
    np.testing.assert_allclose(levels, CHAIN.full_scale_sine_db - float(RESPONSE.response(freq_hz)), atol=0.1)


def test_a_chain_changes_levels_re_1_upa_and_the_calibration_id_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "t.wav", 2000, TONES, 1e-3)
    without, plain, with_table = (run(path, tmp_path, *c) for c in ((), (CHAIN,), (RESPONSE,)))
    assert [m.topic for m in without] == [m.topic for m in plain] == [m.topic for m in with_table]
    assert lines_of(without)
    assert {x["level_db_re_1upa"] for x in lines_of(without)} == {None}
    assert {x["noise_db_re_1upa2_per_hz"] for x in lines_of(without)} == {None}
    assert all(x["level_db_re_fs"] is not None for x in lines_of(without))
    ids = [{m.body["calibration_id"] for m in r} for r in (without, plain, with_table)]
    assert ids[0] == {None}
    assert [len(i) for i in ids] == [1, 1, 1]
    assert ids[1] != ids[2]
    for a, b in zip(without, plain, strict=True):
        assert bare(a.body) == bare(b.body)
        for (_, x), (_, y) in zip(a.arrays, b.arrays, strict=True):
            np.testing.assert_array_equal(x, y)
    for line in lines_of(plain):
        assert line["level_db_re_1upa"] == pytest.approx(line["level_db_re_fs"] + CHAIN.full_scale_peak_db)


def test_gain_turned_up_makes_the_same_detections_at_other_levels_re_full_scale(tmp_path: Path) -> None:
    quiet = run(write(tmp_path / "a.wav", 2000, TONES, 1e-3), tmp_path, CHAIN)
    louder = {f: 8.0 * a for f, a in TONES.items()}
    up = dataclasses.replace(CHAIN, gain_db=CHAIN.gain_db + 20 * math.log10(8.0))
    loud = run(write(tmp_path / "b.wav", 2000, louder, 8e-3), tmp_path, up)
    assert [m.topic for m in quiet] == [m.topic for m in loud]
    assert lines_of(quiet)
    for a, b in zip(lines_of(quiet), lines_of(loud), strict=True):
        assert b["freq_hz"] == pytest.approx(a["freq_hz"], abs=1e-3)
        assert b["snr_db"] == pytest.approx(a["snr_db"], abs=0.05)
        assert b["level_db_re_fs"] - a["level_db_re_fs"] == pytest.approx(20 * math.log10(8.0), abs=0.05)
        assert b["level_db_re_1upa"] == pytest.approx(a["level_db_re_1upa"], abs=0.05)


def bare(x: Any) -> Any:
    """A record without what a chain may change, and without what is new in each run."""
    if isinstance(x, dict):
        return {k: bare(v) for k, v in x.items() if k not in MEANT and k != "contact_id"}
    return [bare(v) for v in x] if isinstance(x, list) else x


def test_noise_under_a_line_has_its_spectral_density_level(tmp_path: Path) -> None:
    messages = run(write(tmp_path / "t.wav", 8000, TONES, 1e-3, seconds=20.0), tmp_path, RESPONSE)
    psd = 20 * math.log10(1e-3 * 1.5) + 165.0 - 26.0 - 10 * math.log10(1000.0)  # white up to 1 kHz: so much in each Hz
    noise = [
        x["noise_db_re_1upa2_per_hz"] + float(RESPONSE.response(x["freq_hz"]))
        for x in lines_of(messages)
        if min(abs(x["freq_hz"] - f) for f in TONES) < 0.2
    ]
    assert len(noise) > 20
    assert np.median(noise) == pytest.approx(psd, abs=0.7)  # the track finder's background errs by up to 0.5 dB


def test_channel_without_a_chain_stays_in_db_re_full_scale(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    x = np.random.default_rng(1).normal(0.0, 0.01, (2, 22000))
    soundfile.write(path, x.T, 2000, subtype="FLOAT")
    windows = [m.body for m in run(path, tmp_path, CHAIN) if m.family == "window"]
    assert {w["channel"]: w["level_db_re_1upa"] is not None for w in windows} == {"ch0": True, "ch1": False}
    assert all(w["level_db_re_fs"] is not None for w in windows)


def test_wrong_sign_in_the_settings_keeps_the_daemon_from_starting(tmp_path: Path) -> None:
    from daemon.cli import main

    path = tmp_path / "t.toml"
    path.write_text("[[hydrophone]]\nchannel = 'ch0'\nsensitivity_db = 165\nadc_vpeak = 1.5\n")
    assert main(["run", "--config", str(path)]) == 78
    assert main(["config", "--check", str(path)]) == 78


def test_check_of_the_settings_prints_what_full_scale_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from daemon.cli import main

    path = tmp_path / "t.toml"
    path.write_text("[[hydrophone]]\nchannel = 'ch0'\nsensitivity_db = -165\ngain_db = 26\nadc_vpeak = 1.5\n")
    assert main(["config", "--check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "hydrophone ch0: full scale = 142.5 dB re 1 uPa (peak), a sine of full scale 139.5 dB re 1 uPa" in out
    assert "own ship   not learned" in out
