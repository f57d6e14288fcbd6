"""From a folder of empty sea to thresholds by channel: what is read, left out, refused."""

from pathlib import Path

import numpy as np
import pytest

from calibration.site import ChannelCalibration
from calibration.site_scores import measure, score_maps
from calibration.site_windows import channel_of, window_s, windows_of_folder
from calibration.thresholds import NOMINAL_LEVELS, conformal_quantile
from models.bundle import Bundle
from models.errors import InputError, UsageError
from models.explainer import Explainer
from models.features import windows_of
from tests.site.conftest import FS, LOW_SHIP, noise, write


def calibrated(bundle: Bundle, explainer: Explainer, folder: Path, **how: object) -> dict[str, ChannelCalibration]:
    detected = "kept" if how.pop("keep", False) else "left out"
    windows, _ = windows_of_folder(bundle, folder, **how)  # type: ignore[arg-type]
    scores = measure(bundle, explainer, windows, detected)
    return {name: c.calibrated(detected) for name, c in scores.items()}


@pytest.fixture(scope="module")
def channels(bundle: Bundle, explainer: Explainer, sea: Path) -> dict[str, ChannelCalibration]:
    return calibrated(bundle, explainer, sea)


def test_columns_of_files_are_channels_each_with_thresholds_of_its_own(
    channels: dict[str, ChannelCalibration],
) -> None:
    assert sorted(channels) == ["ch0", "ch1"]
    for c in channels.values():
        assert (c.n_windows, c.n_recordings, c.n_segments, c.n_detected) == (32, 8, 8, 0)  # 4 windows in 12 s
    for label in ("low", "high"):
        for q in NOMINAL_LEVELS:
            assert channels["ch0"].labels[label][q].value != channels["ch1"].labels[label][q].value


def test_thresholds_are_those_of_the_map_that_the_daemon_cuts(
    bundle: Bundle, explainer: Explainer, sea: Path, channels: dict[str, ChannelCalibration]
) -> None:
    import soundfile

    cells = []
    for path in sorted(sea.iterdir()):
        x, _ = soundfile.read(path, dtype="float32", always_2d=True)
        for w in list(windows_of(bundle.spec, FS, x.T))[::3]:  # 3 s: the least whole step that is no less than 2.4 s
            maps = explainer.explain_all(w.features[1:2], bundle.labels.index("high"), w.spectrum_db[1:2])[1]
            cells.append(maps[0, bundle.spec.row_lo :])
    for q in NOMINAL_LEVELS:
        t = channels["ch1"].labels["high"][q].value
        assert t == conformal_quantile(np.stack(cells), float(q))
        assert (np.stack(cells) <= np.float32(t)).mean() >= float(q)


def test_batch_changes_no_score(bundle: Bundle, explainer: Explainer) -> None:
    w = list(windows_of(bundle.spec, FS, noise(20.0, 5)[None]))
    x, s = np.stack([v.features[0] for v in w]), np.stack([v.spectrum_db[0] for v in w])
    whole = score_maps(bundle, explainer, x, s, "low")
    single = np.concatenate([score_maps(bundle, explainer, x[i : i + 1], s[i : i + 1], "low") for i in range(len(w))])
    np.testing.assert_allclose(whole, single, atol=1e-6)


def test_windows_with_a_detection_are_left_out_or_kept_and_told(
    bundle: Bundle, explainer: Explainer, tmp_path: Path
) -> None:
    for i in range(8):
        write(tmp_path / f"sea{i}.wav", noise(12.0, i))
    for i in range(3):
        write(tmp_path / f"ship{i}.wav", noise(12.0, 50 + i, LOW_SHIP))
    without = calibrated(bundle, explainer, tmp_path)["ch0"]
    assert (without.n_windows, without.n_detected, without.n_recordings) == (32, 12, 8)
    assert without.share_detected == 12 / 44
    with_all = calibrated(bundle, explainer, tmp_path, keep=True)["ch0"]
    assert (with_all.n_windows, with_all.n_detected, with_all.detected) == (44, 12, "kept")
    assert with_all.labels["low"]["0.99"].value > without.labels["low"]["0.99"].value


def test_folder_full_of_ships_is_no_empty_sea(bundle: Bundle, explainer: Explainer, tmp_path: Path) -> None:
    for i in range(8):
        write(tmp_path / f"{i}.wav", noise(12.0, i, LOW_SHIP))
    with pytest.raises(InputError, match="detected in 32 of 32 windows: this is no empty sea"):
        calibrated(bundle, explainer, tmp_path)
    assert calibrated(bundle, explainer, tmp_path, keep=True)["ch0"].n_windows == 32


def test_too_few_windows_or_recordings_are_refused(bundle: Bundle, explainer: Explainer, tmp_path: Path) -> None:
    for i in range(5):
        write(tmp_path / f"{i}.wav", noise(12.0, i))
    with pytest.raises(InputError, match="20 source-free windows, at least 24"):
        calibrated(bundle, explainer, tmp_path)
    with pytest.raises(InputError, match=r"50 windows from 5 independent pieces .* at least 6"):
        calibrated(bundle, explainer, tmp_path, hop_s=1.0)


def test_long_recording_counts_as_pieces(bundle: Bundle, explainer: Explainer, tmp_path: Path) -> None:
    write(tmp_path / "long.wav", noise(725.0, 1))
    c = calibrated(bundle, explainer, tmp_path, hop_s=10.0)["ch0"]
    assert (c.n_recordings, c.n_segments) == (1, 7)
    assert c.seconds == pytest.approx(c.n_windows * window_s(bundle))


@pytest.mark.parametrize(
    ("path", "channel", "named", "expected"),
    [
        ("a.wav", 0, {}, "ch0"),
        ("a.wav", 2, {}, "ch2"),
        ("2026/a.wav", 1, {}, "ch1"),
        ("ch3/deep/a.wav", 0, {}, "ch3"),
        ("bow_1.wav", 0, {"bow": "bow*", "aft": "aft/*"}, "bow"),
        ("aft/1.wav", 0, {"bow": "bow*", "aft": "aft/*"}, "aft"),
        ("other.wav", 0, {"bow": "bow*"}, None),
    ],
)
def test_channel_of_a_file(path: str, channel: int, named: dict[str, str], expected: str | None) -> None:
    assert channel_of(Path("/x") / path, Path("/x"), channel, named) == expected


def test_file_of_two_named_channels_is_refused() -> None:
    with pytest.raises(UsageError, match="belongs to the channels a and b"):
        channel_of(Path("/x/1.wav"), Path("/x"), 0, {"a": "*", "b": "1*"})


def test_files_that_cannot_be_used_are_named_and_stop_nothing(
    bundle: Bundle, explainer: Explainer, tmp_path: Path
) -> None:
    for i in range(8):
        write(tmp_path / "ch1" / f"{i}.wav", noise(12.0, i))
    write(tmp_path / "ch1" / "two.wav", noise(12.0, 1), noise(12.0, 2))
    write(tmp_path / "ch1" / "short.wav", noise(1.0, 1))
    (tmp_path / "ch1" / "text.wav").write_text("no sound")
    windows, refused = windows_of_folder(bundle, tmp_path)
    scores = measure(bundle, explainer, windows)
    assert scores["ch1"].n_windows == 32
    assert sorted(r.path.name for r in refused) == ["short.wav", "text.wav", "two.wav"]
    assert any("has 2 channels, one was expected for ch1" in r.reason for r in refused)


def test_folder_that_is_absent_or_empty_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        windows_of_folder(bundle, tmp_path / "no")
    with pytest.raises(InputError, match="no recordings found"):
        windows_of_folder(bundle, tmp_path)
    write(tmp_path / "a.wav", noise(12.0, 1))
    with pytest.raises(UsageError, match=r"--channel aft=x\*: meets no usable recording"):
        windows_of_folder(bundle, tmp_path, named={"aft": "x*"})
    with pytest.raises(UsageError, match=r"--hop 0\.1"):
        windows_of_folder(bundle, tmp_path, hop_s=0.1)


def test_parts_of_one_recording_follow_one_another(bundle: Bundle, explainer: Explainer, tmp_path: Path) -> None:
    for i in range(6):
        write(tmp_path / f"day_part{i}.wav", noise(60.0, i))
    windows, _ = windows_of_folder(bundle, tmp_path, hop_s=10.0)
    c = measure(bundle, explainer, windows)["ch0"]
    assert c.recordings == {"day"}
    assert len(set(c.segments)) == 3  # 360 s, cut every 120 s
    with pytest.raises(InputError, match="from 3 independent pieces"):
        c.calibrated("left out")
