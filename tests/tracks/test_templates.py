"""Templates: learned from lines whose making is known, fitted to tracks whose making is known."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.templates import learn_templates, lines_of_recording
from models.errors import BundleError
from models.feature_spec import FeatureSpec
from models.hearing import LeastEvidence, hear
from models.line_template import LineGroup, TemplateFitter, Templates
from models.score_map import presence, score_map, vessel_map
from models.tracks import N_BLOCKS, Tracks

SPEC = FeatureSpec()
SHAFT = np.array([16.0, 24.0, 32.0, 40.0]) * 4 / SPEC.bin_hz
MACHINE = np.array([60.0, 144.0, 180.0, 247.0]) * 1.3 / SPEC.bin_hz


def tracks_at(rows: list[float], evidence: float = 40.0) -> Tracks:
    """Straight tracks of equal evidence."""
    r = np.array(rows, np.float32)
    e = np.full(r.size, evidence, np.float32)
    strength = np.ones((SPEC.n_freq, N_BLOCKS), np.float32)
    return Tracks(np.repeat(r[:, None], SPEC.n_time, 1), e, 0 * e, strength, np.zeros(SPEC.n_freq, np.float32))


def recordings(n: int, spread: tuple[float, float], seed: int, presence_share: float = 0.9) -> list[np.ndarray]:
    """Lines of ``n`` recordings: two groups with shifts of their own, and foreign lines anywhere."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        own = np.concatenate([g * (1 + rng.uniform(-s, s)) for g, s in zip((SHAFT, MACHINE), spread, strict=True)])
        own = own[rng.random(own.size) < presence_share] + rng.normal(0, 0.1, 1)
        out.append(np.sort(np.concatenate([own, rng.uniform(6, 250, rng.integers(2, 6))])))
    return out


@pytest.mark.parametrize("spread", [(0.02, 0.003), (0.15, 0.06)])
def test_groups_and_lines_are_found_among_foreign_lines(spread: tuple[float, float]) -> None:
    learned = learn_templates({"a": recordings(30, spread, 1)}, 0.015, SPEC)
    lines = np.array(sorted(f for g in learned.groups["a"] for f in g.freq_hz)) / SPEC.bin_hz
    truth = np.sort(np.concatenate([SHAFT, MACHINE]))
    found = [np.abs(lines / t - 1).min() < 0.05 for t in truth]
    assert sum(found) >= len(truth) - 1
    assert len(lines) <= len(truth) + 1  # foreign lines are none of the class


def test_lines_without_recurrence_teach_nothing() -> None:
    rng = np.random.default_rng(2)
    alone = [np.sort(rng.uniform(6, 250, 9)) for _ in range(20)]
    learned = learn_templates({"a": alone}, 0.04, SPEC)
    assert sum(len(g.freq_hz) for g in learned.groups.get("a", ())) <= 3
    assert learn_templates({"a": alone[:3]}, 0.04, SPEC).groups == {}  # too few to recur at all


def test_lines_of_a_recording_recur_in_its_windows() -> None:
    windows = [tracks_at([50.0 + 0.1 * i, 100.0 - 0.1 * i, 20.0 + 37.0 * i]) for i in range(5)]
    np.testing.assert_allclose(lines_of_recording(windows), [50.2, 99.8], atol=0.15)
    assert lines_of_recording([]).size == 0


TEMPLATES = Templates(
    0.015,
    {
        "a": (
            LineGroup((64.0, 96.0, 128.0, 160.0), (0.9,) * 4, (-0.1, 0.1)),
            LineGroup((300.0,), (0.8,), (-0.01, 0.01)),
        ),
        "b": (LineGroup((50.0, 110.0, 205.0, 333.0), (0.9,) * 4, (-0.02, 0.02)),),
    },
)
FITTER = TemplateFitter(TEMPLATES, SPEC)
A_ROWS = [32.0 * 1.07, 48.0 * 1.07, 64.0 * 1.07, 80.0 * 1.07]


def test_lines_under_a_common_shift_are_own_and_a_lone_line_in_range_is_not() -> None:
    fit = FITTER.fit("a", tracks_at([*A_ROWS, 48.0 * 0.95, 200.0]))  # the fifth lies within the range of the second
    assert fit.own[:4].min() > 0.9
    assert fit.own[4:].max() < 0.1
    assert fit.evidence > 5
    assert fit.shifts[0] == pytest.approx(np.log(1.07), abs=0.01)
    assert presence(fit) > 0.99
    assert fit.expected[[round(r) for r in A_ROWS]].min() > 0.7


def test_no_tracks_speak_against_a_class() -> None:
    fit = FITTER.fit("b", tracks_at([]))
    assert fit.own.size == 0
    assert fit.evidence < -4
    assert FITTER.fit("b", tracks_at([7.0, 222.0])).evidence < 0


def test_what_a_likelier_class_explains_is_taken_from_the_next() -> None:
    both = tracks_at([*A_ROWS, 25.0, 55.0, 102.5, 166.5])
    labels, p = ("a", "b", "ambient"), np.array([0.5, 0.3, 0.2])
    least = LeastEvidence(first=1.0, second=4.0, unexplained=2.0)
    heard = hear(both, FITTER, p, labels, 2, least, {})
    assert {s[0] for s in heard.sounding} == {"a", "b"}
    assert heard.unexplained < 0.5
    single = hear(tracks_at(A_ROWS), FITTER, p, labels, 2, least, {})
    assert [s[0] for s in single.sounding] == ["a"]
    strange = hear(
        tracks_at([9.0, 13.7, 88.1, 141.3, 222.2]), FITTER, np.array([0.01, 0.01, 0.98]), labels, 2, least, {}
    )
    assert strange.sounding == ()
    assert strange.unexplained == pytest.approx(5.0, abs=0.5)


def test_score_map_keeps_own_lines_and_ranks_the_rest_below() -> None:
    tracks = tracks_at([*A_ROWS, 200.0])
    explained = np.random.default_rng(0).random((SPEC.n_freq, SPEC.n_time)).astype(np.float32)
    score = score_map(tracks, FITTER.fit("a", tracks), explained, SPEC.row_lo)
    assert all(score[round(r)].min() > 0.8 for r in A_ROWS)
    assert score[200].max() < 0.01
    assert score[: SPEC.row_lo].max() == 0.0
    np.testing.assert_array_equal(score_map(tracks, None, explained, 0), explained)
    lowered = score_map(tracks, FITTER.fit("a", tracks), explained, SPEC.row_lo, np.array([-1.0, 0, 0, 0, 0]))
    assert lowered[round(A_ROWS[0])].mean() < score[round(A_ROWS[0])].mean()


def test_vessel_map_keeps_strange_lines_only_where_no_class_explains_the_window() -> None:
    tracks = tracks_at([*A_ROWS, 200.0])
    own = {"a": np.array([0.95, 0.95, 0.95, 0.95, 0.0])}
    known = vessel_map(tracks, own, SPEC.n_time, SPEC.row_lo)
    assert known[200].max() < 0.05 < 0.9 < known[round(A_ROWS[0])].min()
    strange = vessel_map(tracks, {}, SPEC.n_time, SPEC.row_lo)
    assert strange[200].min() == strange[round(A_ROWS[0])].min() > 0.4


def test_templates_survive_the_manifest_and_refuse_nonsense() -> None:
    assert Templates.from_dict(TEMPLATES.to_dict()) == TEMPLATES
    values = TEMPLATES.to_dict()
    values["classes"]["a"][0]["shift"] = [0.2, -0.2]
    with pytest.raises(BundleError, match="ascending pair"):
        Templates.from_dict(values)
    with pytest.raises(BundleError, match="expected classes"):
        Templates.from_dict({"classes": {}})
    with pytest.raises(ValueError, match="presences"):
        LineGroup((1.0, 2.0), (0.5,), (0.0, 0.0))
