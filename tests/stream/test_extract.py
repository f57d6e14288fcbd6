"""Extraction: threshold, lines inside the mask, and sources without a name."""

import dataclasses

import numpy as np
import pytest

from calibration.own_ship import OwnLine, OwnShip
from daemon.extract import UNKNOWN, Extractor, Limits, Own
from daemon.frames import Detection, Verdict, Window
from models.features import FeatureSpec, windows_of
from models.tracks import TrackFinder

SPEC, FS = FeatureSpec(), 2000


def window_with(tones: list[float]) -> Window:
    t = np.arange(17000) / FS
    x = 0.01 * np.random.default_rng(0).standard_normal(t.size)
    x += sum(0.004 * np.cos(2 * np.pi * f * t) for f in tones)
    w = next(windows_of(SPEC, FS, x[None].astype(np.float32)))
    level = float(w.level_db[0])
    planes = w.features[0], w.spectrum_db[0], w.background_db[0]
    return Window("s", "0", 0, 0, 0, w.n_samples, FS, *planes, level, "")


def verdict(label: str | None, mix: np.ndarray | None, unknown: bool = False) -> Verdict:
    found = () if label is None or mix is None else (Detection(label, 0.9, mix),)
    ambient = label is None and not unknown
    return Verdict(found, ambient, unknown, np.array([0.9, 0.1], np.float32), "a/1", 0.5, None, {}, 0.0)


@pytest.fixture
def extractor() -> Extractor:
    return Extractor(SPEC, Limits({"a": 0.5}, None, 3.0, 2))


def test_detection_keeps_only_lines_inside_its_mask(extractor: Extractor) -> None:
    mix = np.zeros((SPEC.n_freq, SPEC.n_time), np.float32)
    mix[49:52] = 0.8  # around 100 Hz
    mix[: SPEC.row_lo] = 1.0  # below the band: never part of a signature
    window = window_with([100.0, 200.0])
    (signature,), lines = extractor.process(window, verdict("a", mix))
    assert [round(line.freq_hz) for line in lines] == [100, 200]
    assert [round(line.freq_hz) for line in signature.lines] == [100]
    np.testing.assert_array_equal(np.flatnonzero(signature.mask.any(axis=1)), [49, 50, 51])
    np.testing.assert_array_equal(signature.signature[50], window.features[0, 50])
    assert not signature.signature[60].any()


def test_rejected_window_publishes_its_lines_as_unknown(extractor: Extractor) -> None:
    (signature,), _ = extractor.process(window_with([150.0]), verdict(None, None, unknown=True))
    assert signature.label == UNKNOWN
    assert [round(line.freq_hz) for line in signature.lines] == [150]
    assert signature.mask[74:77].any()


def test_ambient_window_with_lines_is_unknown_and_without_them_nothing(extractor: Extractor) -> None:
    (signature,), _ = extractor.process(window_with([100.0, 300.0]), verdict(None, None))
    assert signature.label == UNKNOWN
    assert extractor.process(window_with([100.0]), verdict(None, None))[0] == []
    assert extractor.process(window_with([]), verdict(None, None))[0] == []


def test_vessel_mode_without_its_threshold_is_our_error() -> None:
    with pytest.raises(ValueError, match="without a threshold"):
        Extractor(SPEC, Limits({"a": 0.5}, None, 3.0, 2), "vessel")


def test_vessel_mode_keeps_all_coherent_lines_and_says_whose_they_are() -> None:
    window = window_with([100.0, 200.0, 310.0])
    tracks = TrackFinder(SPEC).find(window.spectrum_db)
    own = np.where(np.abs(tracks.row - 50) < 1, 0.9, 0.0)
    found = (Detection("a", 0.9, np.zeros((SPEC.n_freq, SPEC.n_time), np.float32)),)
    heard = Verdict(found, False, False, np.array([0.9, 0.1], np.float32), "a/1", 0.5, tracks, {"a": own}, 2.0)
    (signature,), lines = Extractor(SPEC, Limits({"a": 0.5}, 0.05, 3.0, 2), "vessel").process(window, heard)
    assert [round(line.freq_hz) for line in signature.lines] == [100, 200, 310]
    assert [line.label_probability > 0.5 for line in lines] == [True, False, False]
    assert signature.mask[[50, 100, 155]].all()
    assert signature.mask.mean() < 0.05


def own_ship(*freq_hz: float) -> OwnShip:
    lines = tuple(OwnLine(lo_hz=f, hi_hz=f, share=1.0, level_db_re_fs=-50.0) for f in freq_hz)
    return OwnShip(bundle="b", version=1, created="", data="", tolerance_hz=1.0, channels={"0": lines})


@pytest.mark.parametrize(
    ("owned", "marked", "whole"),
    [((), [False, False], False), ((100.0,), [True, False], False), ((100.0, 200.0), [True, True], True)],
)
def test_class_for_which_nothing_but_the_own_ship_speaks_is_marked(
    owned: tuple[float, ...], marked: list[bool], whole: bool
) -> None:
    mix = np.zeros((SPEC.n_freq, SPEC.n_time), np.float32)
    mix[49:52] = mix[99:102] = 0.8  # around 100 and 200 Hz
    extractor = Extractor(SPEC, Limits({"a": 0.5}, None, 3.0, 0), own=Own(own_ship(*owned)))
    (signature,), lines = extractor.process(window_with([100.0, 200.0]), verdict("a", mix))
    assert [line.own_ship for line in lines] == marked
    assert signature.own_ship == whole


def test_own_ship_comes_behind_what_is_heard_beside_it() -> None:
    ours, theirs = (np.zeros((SPEC.n_freq, SPEC.n_time), np.float32) for _ in range(2))
    ours[49:52], theirs[99:102] = 0.8, 0.8
    both = verdict("a", ours)
    both = dataclasses.replace(both, detections=(*both.detections, Detection("b", 0.8, theirs)))
    extractor = Extractor(SPEC, Limits({"a": 0.5, "b": 0.5}, None, 3.0, 0), own=Own(own_ship(100.0)))
    signatures, _ = extractor.process(window_with([100.0, 200.0]), both)
    assert [(s.label, s.own_ship) for s in signatures] == [("b", False), ("a", True)]


@pytest.mark.parametrize(("least", "is_own"), [(1.0, False), (2.5, True)])
def test_unknown_beside_the_own_ship_needs_as_many_lines_as_hold_a_contact(least: float, is_own: bool) -> None:
    window = window_with([90.0, 120.0, 230.0, 270.0, 335.0])  # 120 Hz is hum
    extractor = Extractor(SPEC, Limits({"a": 0.5}, None, 3.0, 0), own=Own(own_ship(90.0, 270.0), least))
    (signature,) = extractor.process(window, verdict(None, None, unknown=True))[0]
    assert [line.own_ship for line in signature.lines] == [True, False, False, True, False]
    assert signature.own_ship == is_own
