from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibration.truth import LineTrack, Truth, truth_masks, truth_path
from models.errors import InputError
from models.features import FeatureSpec

SPEC = FeatureSpec()
FS = 2000
GOOD = {"labels": ["vessel_0"], "lines": [{"label": None, "t_s": [0, 1.5], "f_hz": [50, 51], "snr_db": [3, -2.5]}]}


def line(label: str | None, f_hz: float, snr_db: float = 10.0, t0: float = 0.0, t1: float = 100.0) -> LineTrack:
    return LineTrack(label, np.array([t0, t1]), np.full(2, f_hz), np.full(2, snr_db))


def test_write_then_read_returns_the_same_tracks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t = np.linspace(0, 60, 601)
    track = LineTrack("vessel_1", t, 100 + rng.normal(size=t.size), 5 + rng.normal(size=t.size))
    path = tmp_path / "a.truth.json"
    Truth(("vessel_1",), (track, line(None, 77.7))).write(path)
    back = Truth.read(path)
    assert back.labels == ("vessel_1",)
    assert [x.label for x in back.lines] == ["vessel_1", None]
    # written to 1e-6 s, 1e-4 Hz, 1e-3 dB: half of that may be lost, plus float noise
    np.testing.assert_allclose(back.lines[0].t_s, t, atol=0.51e-6)
    np.testing.assert_allclose(back.lines[0].f_hz, track.f_hz, atol=0.51e-4)
    np.testing.assert_allclose(back.lines[0].snr_db, track.snr_db, atol=0.51e-3)


def test_written_file_has_exactly_the_keys_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "a.truth.json"
    Truth((), (line(None, 50.0),)).write(path)
    values = json.loads(path.read_text())
    assert set(values) == {"labels", "lines"}
    assert set(values["lines"][0]) == {"label", "t_s", "f_hz", "snr_db"}
    assert values["lines"][0]["label"] is None


def test_truth_path_is_beside_the_audio() -> None:
    assert truth_path(Path("x/v.0/a.b.wav")) == Path("x/v.0/a.b.truth.json")


def test_read_accepts_integers_and_further_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.truth.json"
    path.write_text(json.dumps({**GOOD, "made_by": "someone"}))
    assert Truth.read(path).lines[0].f_hz.tolist() == [50.0, 51.0]


def broken(**changes: object) -> dict[str, object]:
    return {**GOOD, "lines": [{**GOOD["lines"][0], **changes}]}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([], "top level"),
        ({"lines": []}, "labels: is missing"),
        ({"labels": "vessel_0", "lines": []}, "labels"),
        ({"labels": [1], "lines": []}, "labels"),
        ({"labels": []}, "lines: is missing"),
        ({"labels": [], "lines": {}}, "lines"),
        ({"labels": [], "lines": [3]}, "lines[0]"),
        ({"labels": [], "lines": [{}]}, "lines[0].label: is missing"),
        (broken(label=4), "lines[0].label"),
        (broken(label=""), "lines[0].label"),
        (broken(f_hz=[50]), "lines[0].f_hz: has 1 values, but t_s has 2"),
        (broken(snr_db=[1, 2, 3]), "lines[0].snr_db: has 3 values"),
        (broken(t_s=[1, 1]), "lines[0].t_s: is not ascending at index 1"),
        (broken(f_hz=[50, 0]), "lines[0].f_hz: is not positive at index 1"),
        (broken(f_hz=[]), "lines[0].f_hz"),
        (broken(snr_db=[1, None]), "lines[0].snr_db[1]: must be a number, is null"),
        (broken(snr_db=[True, 1]), "lines[0].snr_db[0]: must be a number, is true/false"),
        (broken(snr_db=[float("nan"), 1]), "lines[0].snr_db[0]"),
        (broken(snr_db=[10**400, 1]), "lines[0].snr_db[0]"),
        (broken(t_s="now"), "lines[0].t_s"),
    ],
)
def test_read_wrong_value_names_file_and_key(tmp_path: Path, values: object, key: str) -> None:
    path = tmp_path / "bad.truth.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError) as e:
        Truth.read(path)
    assert "bad.truth.json" in str(e.value)
    assert key in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_read_no_json_is_an_input_error(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "bad.truth.json"
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"bad\.truth\.json"):
        Truth.read(path)


def test_read_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Truth.read(tmp_path / "none.truth.json")


def test_masks_steady_line_marks_one_bin_and_a_ring_of_three() -> None:
    masks = truth_masks(Truth(("a",), (line("a", 100.0),)), SPEC, FS, 0, "a")
    assert np.flatnonzero(masks.tone.any(axis=1)).tolist() == [49, 50, 51]
    assert np.flatnonzero(masks.guard.any(axis=1)).tolist() == [47, 48, 52, 53]
    assert masks.tone[50].all()
    assert not masks.interferer.any()
    assert not masks.other.any()


def test_masks_line_between_bins_marks_the_two_next_to_it() -> None:
    masks = truth_masks(Truth(("a",), (line("a", 101.0),)), SPEC, FS, 0, "a")
    assert np.flatnonzero(masks.tone.any(axis=1)).tolist() == [50, 51]


def test_masks_weak_line_is_guard_only() -> None:
    masks = truth_masks(Truth(("a",), (line("a", 100.0, snr_db=2.9),)), SPEC, FS, 0, "a")
    assert not masks.tone.any()
    assert np.flatnonzero(masks.guard.any(axis=1)).tolist() == list(range(47, 54))


def test_masks_foreign_and_other_lines_stay_outside_the_guard() -> None:
    truth = Truth(("a", "b"), (line("a", 100.0), line(None, 106.0), line("b", 200.0), line("b", 96.0)))
    masks = truth_masks(truth, SPEC, FS, 0, "a")
    assert np.flatnonzero(masks.interferer.any(axis=1)).tolist() == [54]  # 52 and 53 lie in the ring
    assert np.flatnonzero(masks.other.any(axis=1)).tolist() == [99, 100, 101]
    total = masks.tone.astype(int) + masks.guard + masks.interferer
    assert total.max() == 1


def test_masks_seen_by_ambient_have_no_tone() -> None:
    masks = truth_masks(Truth(("a",), (line("a", 100.0), line(None, 300.0))), SPEC, FS, 0, "ambient")
    assert not masks.tone.any()
    assert not masks.guard.any()
    assert masks.other[50].all()
    assert masks.interferer[150].all()


@pytest.mark.parametrize("fs", [2000, 8000, 48000])
def test_masks_line_ends_at_its_last_time_at_any_rate(fs: int) -> None:
    first = 3 * fs
    masks = truth_masks(Truth(("a",), (line("a", 100.0, t0=5.0, t1=7.0),)), SPEC, fs, first, "a")
    t = (first + SPEC.column_centres(fs)) / fs
    np.testing.assert_array_equal(masks.tone[50], (t >= 5.0) & (t <= 7.0))
    assert 0 < masks.tone[50].sum() < SPEC.n_time


def test_masks_line_above_the_band_marks_nothing() -> None:
    masks = truth_masks(Truth(("a",), (line("a", 5000.0),)), SPEC, 48000, 0, "a")
    assert not (masks.tone | masks.guard).any()
