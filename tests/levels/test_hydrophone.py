"""Measuring chains: textbook arithmetic, and what no hydrophone can be is refused with its reason."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.calibrator import measure_tone
from calibration.hydrophone import Hydrophone
from daemon.cli import main
from daemon.config import Config
from daemon.levels import enbw_bins, levels_of, settled
from models.errors import AudioFormatError, ConfigError, UsageError

GOOD: dict[str, Any] = {"channel": "ch0", "sensitivity_db": -170.0, "gain_db": 20.0, "adc_vpeak": 2.0}


def test_full_scale_is_voltage_less_sensitivity_less_gain() -> None:
    h = Hydrophone(**GOOD)
    assert h.full_scale_peak_db == pytest.approx(20 * math.log10(2.0) + 170.0 - 20.0)
    # in volts: 1 uPa gives 10^(-170/20) V, amplified tenfold; the converter is full at 2 V
    assert h.full_scale_peak_db == pytest.approx(20 * math.log10(2.0 / (10 ** (-170 / 20) * 10)))
    assert h.full_scale_sine_db == pytest.approx(h.full_scale_peak_db - 3.0103, abs=1e-4)
    assert h.level_db(-3.0103, 100.0) == pytest.approx(h.full_scale_sine_db, abs=1e-4)


def test_one_value_for_the_whole_chain_as_makers_of_recorders_give_it() -> None:
    assert Hydrophone(channel="ch0", full_scale_db=175.2).full_scale_peak_db == 175.2
    with pytest.raises(ConfigError, match=r"full_scale_db = 175\.2 states the whole chain"):
        Hydrophone(full_scale_db=175.2, **GOOD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensitivity_db": 170.0}, "sensitivity_db = 170 is positive: .* write -170"),
        ({"sensitivity_db": 50.0}, "is positive.*full_scale_db"),
        ({"sensitivity_db": -50.0}, "lies above -100: .*V/Pa take off 120"),
        ({"sensitivity_db": -260.0}, "lies below -250"),
        ({"sensitivity_db": math.nan}, "sensitivity_db is missing"),
        ({"gain_db": 200.0}, "gain_db = 200 is not in"),
        ({"adc_vpeak": 0.0}, "adc_vpeak = 0 is not in"),
        ({"adc_vpeak": math.nan}, "adc_vpeak is missing"),
        ({"sensitivity_db": -105.0, "gain_db": 80.0}, "check signs and units"),
        ({"channel": ""}, "channel = '': name the channel"),
        ({"response_hz": (10.0, 100.0), "response_db": (0.0,)}, "one for each frequency"),
        ({"response_hz": (100.0, 10.0), "response_db": (0.0, 0.0)}, "does not rise: 10 Hz follows 100 Hz"),
        ({"response_hz": (0.0, 10.0), "response_db": (0.0, 0.0)}, "not positive"),
        ({"response_hz": (10.0, 20.0), "response_db": (-169.0, -170.0)}, "absolute sensitivities go into"),
    ],
)
def test_what_no_hydrophone_can_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Hydrophone(**{**GOOD, **change})  # type: ignore[arg-type]


def test_response_runs_straight_over_the_logarithm_and_keeps_its_ends() -> None:
    h = Hydrophone(**GOOD, response_hz=(10.0, 1000.0), response_db=(-6.0, 2.0))
    np.testing.assert_allclose(h.response([5.0, 10.0, 100.0, 1000.0, 5000.0]), [-6.0, -6.0, -2.0, 2.0, 2.0])
    assert h.level_db(-50.0, 10.0) - h.level_db(-50.0, 1000.0) == pytest.approx(8.0)  # deaf there: it was louder
    assert h.uncovered(10.0, 512.0) == ""
    assert "below 10 Hz of the analysed 5 to 512 Hz" in h.uncovered(5.0, 512.0)
    assert "below 10 Hz and above 1000 Hz" in h.uncovered(5.0, 2000.0)


def test_noise_bandwidth_of_the_hann_window_is_one_and_a_half_bins() -> None:
    assert enbw_bins(1000) == pytest.approx(1.5)


CONFIG = """
node = "x"
[[hydrophone]]
channel = "ch0"
sensitivity_db = -170.0
adc_vpeak = 1.0

[[hydrophone]]
channel = "ch1"
{line}
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "sensitivty_db = -170.0",
            r"t.toml:10: unknown key 'hydrophone\[1\].sensitivty_db'; nearest is",
        ),
        ("sensitivity_db = 170.0\nadc_vpeak = 1.0", r"t.toml:10: hydrophone\[1\]: sensitivity_db = 170 is positive"),
        ("adc_vpeak = 1.0", r"t.toml:8: hydrophone\[1\]: sensitivity_db is missing"),
        ("full_scale_db = 'loud'", r"t.toml:10: hydrophone\[1\].full_scale_db = 'loud' is not a number"),
        ("full_scale_db = nan", r"is not a number"),
        ("full_scale_db = 170.0\n[[hydrophone]]\nchannel = 'ch0'\nfull_scale_db = 170", "has a table already"),
    ],
)
def test_mistake_in_a_table_is_named_with_its_line(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.parse(CONFIG.format(line=line), "t.toml")
    with pytest.raises(ConfigError, match=r"write \[\[hydrophone\]\]"):
        Config.parse("[hydrophone]\nchannel = 'ch0'")


def test_chains_come_from_a_toml_or_csv_file_with_response_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "flat.csv").write_text("# from the maker\nfreq_hz,response_db\n10,-1.0\n100,0\n")
    (tmp_path / "absolute.csv").write_text("freq_hz,sensitivity_db\n10,-171.0\n100,-170\n")
    (tmp_path / "h.toml").write_text(
        "[[hydrophone]]\nchannel = 'ch0'\nsensitivity_db = -170\nadc_vpeak = 1\nresponse_file = 'absolute.csv'\n"
    )
    (tmp_path / "h.csv").write_text(
        "channel,sensitivity_db,gain_db,adc_vpeak,full_scale_db,response_file\nch0,-170,,1,,flat.csv\nch1,,,,175,\n"
    )
    of_toml, of_csv = (levels_of(Config(hydrophones=str(tmp_path / f"h.{kind}"))) for kind in ("toml", "csv"))
    assert of_toml.chains["ch0"] == of_csv.chains["ch0"]
    assert of_csv.chains["ch1"].full_scale_peak_db == 175.0
    assert of_toml.id != of_csv.id
    assert of_csv.id == levels_of(settled(Config(hydrophones=str(tmp_path / "h.csv")))).id


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("h.csv", "channel,sensitivity\nch0,-170\n", "h.csv:1: unknown column 'sensitivity'; nearest is"),
        ("h.csv", "channel,full_scale_db\nch0,loud\n", "h.csv:2: 'loud' is not a number"),
        ("h.csv", "channel,full_scale_db\nch0,175,1\n", "h.csv:2: 3 columns, the head has 2"),
        ("h.csv", "channel,full_scale_db\nch0,175\nch0,175\n", "ch0 stands there twice"),
        ("h.csv", "channel,full_scale_db,response_file\nch0,175,none.csv\n", "none.csv: cannot be read"),
        ("h.csv", "channel,full_scale_db,response_file\nch0,175,r.csv\n", "r.csv:3: 'x' is not a number"),
        ("h.toml", "node = 'x'\n", "only .* tables belong here"),
        ("h.toml", "", "holds no"),
    ],
)  # fmt: skip
def test_mistake_in_a_file_is_named_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "r.csv").write_text("freq_hz,response_db\n10,0\n20,x\n")
    with pytest.raises(ConfigError, match=message):
        levels_of(Config(hydrophones=str(tmp_path / name)))


def tone(fs: int, freq_hz: float, amplitude: float, seconds: float = 5.0, noise: float = 1e-4) -> np.ndarray:
    t = np.arange(round(fs * seconds)) / fs
    return amplitude * np.cos(2 * np.pi * freq_hz * t) + np.random.default_rng(0).normal(0.0, noise, t.size)


@pytest.mark.parametrize(("fs", "freq_hz"), [(2000, 250.0), (8000, 249.37), (48000, 1000.5), (96000, 153.2)])
def test_known_tone_gives_back_the_chain(fs: int, freq_hz: float) -> None:
    h = Hydrophone(**GOOD)
    amplitude = 10 ** ((150.0 - h.full_scale_sine_db) / 20)  # a tone of 150 dB re 1 uPa through this chain
    m = measure_tone(tone(fs, freq_hz, amplitude).astype(np.float32), fs, round(freq_hz))
    assert m.problem == ""
    assert m.freq_hz == pytest.approx(freq_hz, abs=0.1)
    assert m.full_scale_peak_db(150.0) == pytest.approx(h.full_scale_peak_db, abs=0.02)
    assert m.sensitivity_db(150.0, 20.0, 2.0) == pytest.approx(-170.0, abs=0.02)


def test_tone_that_is_not_to_be_trusted_says_why() -> None:
    assert "no tone" in measure_tone(tone(8000, 250.0, 0.0).astype(np.float32), 8000, 250.0).problem
    assert "clipped" in measure_tone(np.clip(tone(8000, 250.0, 2.0), -1, 1).astype(np.float32), 8000, 250.0).problem
    x = tone(8000, 250.0, 0.1) * np.linspace(0.5, 1.0, 40000)
    assert "not steady" in measure_tone(x.astype(np.float32), 8000, 250.0).problem
    with pytest.raises(AudioFormatError, match="too short"):
        measure_tone(np.zeros(8000, np.float32), 8000, 250.0)
    with pytest.raises(UsageError, match="cannot be measured"):
        measure_tone(np.zeros(80000, np.float32), 8000, 3900.0)


def test_command_calibrates_each_channel_by_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile = pytest.importorskip("soundfile")
    x = np.stack([tone(8000, 250.0, 0.5), tone(8000, 250.0, 0.0)], 1)
    soundfile.write(tmp_path / "cal.wav", x, 8000, subtype="PCM_24")
    words = ["levels", str(tmp_path / "cal.wav"), "--tone-hz", "250", "--tone-db", "160"]
    assert main([*words, "--gain-db", "20", "--adc-vpeak", "2"]) == 0
    out = capsys.readouterr().out
    assert "# ch1: not used: no tone" in out
    chain = Config.parse(out).hydrophone[0]  # what is printed goes into the settings as it is
    assert chain.full_scale_sine_db == pytest.approx(160.0 + 6.02, abs=0.02)
    (tmp_path / "t.toml").write_text(out)
    assert main(["levels", "--config", str(tmp_path / "t.toml")]) == 0
    assert "ch0: full scale = 169.0 dB re 1 uPa (peak), a sine of full scale 166.0" in capsys.readouterr().out
    assert main([*words, "--config", str(tmp_path / "t.toml")]) == 0
    assert "the tone -0.00 dB" in capsys.readouterr().out.replace("+0.00", "-0.00")
    assert main([*words, "--channel", "ch1"]) == 65
    assert main([*words, "--channel", "ch7"]) == 66
    assert main(["levels"]) == 64
