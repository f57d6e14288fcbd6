"""Representative windows: what goes into a bundle comes out again, named, and damage is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.dataset import Clip, WindowSet
from calibration.examples import CLIP_BYTES, EXAMPLES, N_STEPS, Examples, read_examples
from models.bundle import Bundle
from models.errors import BundleError, UsageError
from tests.toy_bundle import LABELS, SPEC, make_bundle, window

NAMES = tuple(f"{label}/0" for label in LABELS)


def window_set(clip_name: str = "sea/7") -> WindowSet:
    clips = tuple(Clip(f"{clip_name}/{label}", label, "g", 2000, lambda: (np.zeros((1, 1), np.float32), None))
                  for label in LABELS)  # fmt: skip
    features = np.stack([window(low=0.7), window(high=0.5, seed=1), window(seed=2)])
    index = np.arange(len(LABELS))
    return WindowSet(SPEC, LABELS, clips, (None,) * 3, features, index, index, 0 * index, 1000 * index)


def bundle_with(tmp_path: Path, examples: Examples | None) -> Bundle:
    report = tmp_path / "report"
    report.mkdir()
    (report / "page.html").write_text("<p>")
    if examples is not None:
        examples.write(report)
    return make_bundle(tmp_path / "bundle", report_dir=report)


def test_windows_come_back_from_a_bundle(tmp_path: Path) -> None:
    windows = window_set()
    bundle = bundle_with(tmp_path, Examples.of(windows, NAMES))
    again = read_examples(bundle)
    assert again.names == bundle.representatives.names
    example = again["high/0"]
    np.testing.assert_allclose(example.features, windows.features[1], atol=0.5 / N_STEPS + 1e-6)
    assert (example.clip, example.first_sample) == ("sea/7/high", 1000)
    assert example.lines_hz[0] == 3 * SPEC.n_freq // 4 * SPEC.bin_hz  # the line `window` draws


def test_an_unknown_name_is_told_some_that_exist() -> None:
    with pytest.raises(UsageError, match="no example 'whale/1': one of low/0"):
        Examples.of(window_set(), NAMES)["whale/1"]


def test_a_bundle_without_examples_says_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="calibrate it again"):
        read_examples(bundle_with(tmp_path, None))


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, Examples.of(window_set(), NAMES))
    path = bundle.path / EXAMPLES
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(BundleError, match="does not match its hash"):
        read_examples(bundle)


def test_examples_of_other_windows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="names other windows"):
        read_examples(bundle_with(tmp_path, Examples.of(window_set(), ("x/1", "x/2", "x/3"))))


@pytest.mark.parametrize("names", [("a", "a", "b"), ("a", "b"), ("a", "b", ""), ("a", "b", "c" * 65)])
def test_names_that_tell_nothing_apart_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="name"):
        Examples.of(window_set(), names)


def test_windows_that_are_not_finite_are_refused() -> None:
    windows = window_set()
    windows.features[0, 0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        Examples.of(windows, NAMES)


def test_long_names_of_recordings_keep_their_end(tmp_path: Path) -> None:
    examples = Examples.of(window_set("d" * 300), NAMES)
    again = read_examples(bundle_with(tmp_path, examples))
    assert len(again["low/0"].clip) == CLIP_BYTES
    assert again["low/0"].clip.endswith("d/low")
