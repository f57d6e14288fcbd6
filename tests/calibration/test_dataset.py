"""Windows of clips, and splits that never cut a group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from calibration.dataset import AMBIENT, Clip, clips_of, collect, simulated_clips, split
from calibration.recordings import scan
from calibration.scenarios import SCENARIOS
from models.errors import InputError, UsageError
from models.features import FeatureSpec, windows_of

SPEC = FeatureSpec()
STANDARD = SCENARIOS["standard"]
LABELS = (*STANDARD.labels, AMBIENT)


def silent(name: str, label: str, group: str) -> Clip:
    return Clip(name, label, group, 2000, lambda: (np.zeros((1, 20000), np.float32), None))


def test_collect_keeps_every_nth_slot_with_its_place_and_truth() -> None:
    clips = simulated_clips(STANDARD, "test", 1, 14.0)
    found = collect(clips, SPEC, LABELS, every=2)
    n_slots = SPEC.n_windows(2000, 28000)
    assert len(found) == len(LABELS) * -(-n_slots // 2)
    assert found.has_truth
    assert set(found.first_sample) == {2 * i * SPEC.step(2000) for i in range(-(-n_slots // 2))}
    x, _ = clips[1].load()
    expected = [w.features[0] for w in windows_of(SPEC, 2000, x) if w.grid_index % 2 == 0]
    np.testing.assert_array_equal(found.features[found.clip == 1], np.stack(expected))
    assert found.counts() == dict.fromkeys(LABELS, -(-n_slots // 2))


def test_collect_takes_each_channel_as_a_window_of_the_same_group(tmp_path: Path) -> None:
    (tmp_path / "tug").mkdir()
    (tmp_path / "noise").mkdir()
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "tug" / "a.wav", 0.1 * rng.standard_normal((20000, 3)), 2000)
    soundfile.write(tmp_path / "noise" / "b.wav", 0.1 * rng.standard_normal(20000), 2000)
    clips = clips_of(scan(tmp_path, SPEC), ambient=["noise"])
    found = collect(clips, SPEC, ("tug", AMBIENT))
    tug = found.of_label("tug")
    assert sorted(set(tug.channel)) == [0, 1, 2]
    assert set(tug.groups) == {"tug/a"}
    assert len(found.of_label(AMBIENT)) * 3 == len(tug)
    assert not found.has_truth


def test_collect_lists_files_that_break_while_read_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for name in ("good", "bad"):
        soundfile.write(tmp_path / "x" / f"{name}.wav", np.zeros(20000, np.float32), 2000, subtype="FLOAT")
    clips = clips_of(scan(tmp_path, SPEC))
    soundfile.write(tmp_path / "x" / "bad.wav", np.full(20000, np.nan, np.float32), 2000, subtype="FLOAT")
    found = collect(clips, SPEC, ("x", AMBIENT))
    assert [c.name for c in found.clips] == ["x/good.wav"]
    assert "not finite" in found.refused[0].reason
    with pytest.raises(InputError, match="no windows"):
        collect([c for c in clips if "bad" in c.name], SPEC, ("x", AMBIENT))


def test_collect_refuses_or_marks_labels_it_does_not_know() -> None:
    clips = [silent("s", "stranger", "s")]
    with pytest.raises(UsageError, match="'stranger' is not one of"):
        collect(clips, SPEC, LABELS)
    assert set(collect(clips, SPEC, LABELS, others=True).y) == {-1}


def test_simulated_spaces_share_no_recording() -> None:
    x = {space: simulated_clips(STANDARD, space, 1, 10.0)[0].load()[0] for space in ("train", "calibrate", "test")}
    for a, b in (("train", "calibrate"), ("train", "test"), ("calibrate", "test")):
        r = np.corrcoef(x[a][0], x[b][0])[0, 1]
        assert abs(r) < 0.2  # two recordings may share a line, never the noise


@given(
    n_groups=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    n_clips=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_split_never_cuts_a_group_and_serves_each_part(n_groups: list[int], n_clips: int, seed: int) -> None:
    clips = [
        silent(f"{label}/{g}/{i}", str(label), f"{label}/{g}")
        for label, n in enumerate(n_groups)
        for g in range(n)
        for i in range(n_clips)
    ]
    shares = {"train": 0.7, "val": 0.15, "calibrate": 0.15}
    parts, notes = split(clips, shares, seed)
    assert sorted(c.name for p in parts.values() for c in p) == sorted(c.name for c in clips)
    groups = {name: {c.group for c in part} for name, part in parts.items()}
    assert not groups["train"] & groups["val"]
    assert not groups["train"] & groups["calibrate"]
    assert not groups["val"] & groups["calibrate"]
    for label, n in enumerate(n_groups):
        served = [name for name, part in parts.items() if any(c.label == str(label) for c in part)]
        assert served == list(shares)[: min(n, 3)]
        assert any(note.startswith(f"{label}:") for note in notes) == (n < 3)
    again, _ = split(clips, shares, seed)
    assert {k: [c.name for c in v] for k, v in again.items()} == {k: [c.name for c in v] for k, v in parts.items()}


def test_split_keeps_a_vessel_of_two_labels_in_one_part() -> None:
    clips = [silent(f"{label}{i}", label, "shared" if i == 0 else f"{label}{i}") for label in "ab" for i in range(6)]
    parts, _ = split(clips, {"train": 0.5, "test": 0.5})
    homes = [name for name, part in parts.items() if any(c.group == "shared" for c in part)]
    assert len(homes) == 1
