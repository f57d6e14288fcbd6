"""Strange vessels: a table of its own for each recording, heard where it says, and no class that is known."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.scenarios import scenario_named
from calibration.strange_vessels import N_MACHINERY, N_SHAFT, STRANGE, strange_clips, strange_sea
from models.errors import UsageError
from models.feature_spec import FeatureSpec
from models.features import windows_of
from models.line_evidence import EVEN_EVIDENCE, line_evidence

SEA = scenario_named("standard")


def table(space: str, index: int) -> tuple[float, ...]:
    return tuple(line.f_hz for line in strange_sea(SEA, space, index).classes[0].lines)  # type: ignore[arg-type]


def test_tables_belong_to_space_and_index_alone() -> None:
    assert table("train", 3) == table("train", 3)
    assert len({table(space, i) for space in ("train", "test") for i in range(20)}) == 40


def test_tables_lie_in_the_band_and_have_lines_enough() -> None:
    for i in range(60):
        lines = table("train", i)
        assert N_SHAFT[0] + N_MACHINERY[0] <= len(lines) <= N_SHAFT[1] + N_MACHINERY[1]
        assert min(lines) > 4.0
        assert max(lines) < 500.0


def test_a_recording_holds_the_lines_of_its_table() -> None:
    (clip,) = strange_clips(SEA, "train", 1, 20.0, first=2)
    assert clip.label == STRANGE
    x, truth = clip.load()
    assert truth is not None
    spec = FeatureSpec()
    window = next(iter(windows_of(spec, clip.fs, x)))
    found = np.flatnonzero(line_evidence(window.features, spec)[0] >= EVEN_EVIDENCE) * spec.bin_hz
    mine = [float(np.median(line.f_hz)) for line in truth.lines if line.label == STRANGE]
    heard = [np.abs(found - f).min() <= 2 * spec.bin_hz for f in mine if f > 20.0]
    assert np.mean(heard) >= 0.6  # lines down to 2 dB in the bin; hum and neighbours hide some


def test_names_tell_recordings_apart() -> None:
    clips = strange_clips(SEA, "test", 5, 10.0, first=7)
    assert len({c.name for c in clips}) == len({c.group for c in clips}) == 5


def test_a_sea_without_vessels_and_no_recordings_are_refused() -> None:
    with pytest.raises(UsageError, match="no vessels"):
        strange_sea(scenario_named("empty"), "train", 0)
    with pytest.raises(UsageError, match="at least 1"):
        strange_clips(SEA, "train", 0, 10.0)
    with pytest.raises(UsageError, match="negative"):
        strange_sea(SEA, "train", -1)
