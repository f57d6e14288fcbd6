"""Extraction: threshold, lines inside the mask, and sources without a name."""

import numpy as np
import pytest

from daemon.extract import UNKNOWN, Extractor
from daemon.frames import Detection, Verdict, Window
from models.features import FeatureSpec, windows_of

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
    found = (Detection(label, 0.9),) if label else ()
    ambient = label is None and not unknown
    return Verdict(found, ambient, unknown, np.array([0.9, 0.1], np.float32), mix, mix, "a/1", 0.5)


@pytest.fixture
def extractor() -> Extractor:
    return Extractor(SPEC, {"a": 0.5}, 3.0, 2)


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


def test_detection_without_a_score_map_is_our_error(extractor: Extractor) -> None:
    with pytest.raises(ValueError, match="without a score map"):
        extractor.process(window_with([]), verdict("a", None))
