"""The judge on methods whose answers are known: one who knows, one who keeps all, one who is silent."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calibration.experiments.judge import LEVELS, Judgement, judge, judge_masks, point_of, thresholds_of
from calibration.experiments.scene import Scene
from calibration.experiments.trial import (
    CALM_FIRST,
    MIN_CALM,
    Trial,
    make_trial,
    source_free,
    trial_of,
)
from calibration.metrics import WindowTruth
from calibration.peers.normalisers import Tpsw
from calibration.scenarios import AMBIENT, SCENARIOS
from models.errors import UsageError
from models.features import FeatureSpec

SPEC = FeatureSpec()
STANDARD = SCENARIOS["standard"]
LABELS = (*STANDARD.labels, AMBIENT)
SILENT = LABELS.index(AMBIENT)


@pytest.fixture(scope="module")
def trial() -> Trial:
    return make_trial(STANDARD, 1, 8, SPEC, LABELS, n_calm=48)


class Oracle:
    """Knows the tone cells of the class it is asked for."""

    name = "oracle"

    def maps(self, scene: Scene, cls: np.ndarray) -> np.ndarray:
        w = scene.windows
        out = np.zeros(scene.spectrum_db.shape, np.float32)
        for i, c in enumerate(cls):
            truth = w.truths[w.clip[i]]
            assert truth is not None
            out[i] = WindowTruth.of(truth, SPEC, scene.fs, int(w.first_sample[i]), LABELS[c]).tone
        return out


@dataclasses.dataclass
class Flat:
    """Says the same of each cell."""

    value: float
    name: str = "flat"

    def maps(self, scene: Scene, cls: np.ndarray) -> np.ndarray:
        return np.full(scene.spectrum_db.shape, self.value, np.float32)


def values(judgement: Judgement, point: str, key: str) -> np.ndarray:
    return np.array([row[point][key] for row in judgement.rows])


@pytest.mark.parametrize("gated", [True, False])
def test_one_who_knows_loses_no_tone_and_keeps_no_noise(trial: Trial, gated: bool) -> None:
    j = judge(Oracle(), trial, gated=gated, cuts=(0.75,))
    for point in (*(point_of("conformal", q) for q in LEVELS), "cut_75"):
        assert (values(j, point, "overwritten_tones") == 0).all()
        assert (values(j, point, "removed_noise") == 1).all()
        assert (values(j, point, "line_f1") == 1).all()
        assert (values(j, point, "intersecting_regions") == 0).all()
    assert (values(j, "threshold_free", "tone_auc") == 1).all()
    assert (values(j, "threshold_free", "ot_at_rn_99") == 0).all()


def test_all_kept_intersects_as_many_regions_as_the_tables_hold(trial: Trial) -> None:
    j = judge_masks("all", [t.in_use for t in trial.truths], trial)
    in_table = [len(rows) for rows in trial.foreign_rows]
    assert values(j, "mask", "intersecting_regions").tolist() == in_table
    assert min(in_table) > 10
    assert (values(j, "mask", "removed_noise") == 0).all()
    assert (values(j, "mask", "foreign_removed")[~np.isnan(values(j, "mask", "foreign_removed"))] == 0).all()


def test_a_flat_map_keeps_nothing_and_tells_nothing(trial: Trial) -> None:
    j = judge(Flat(3.0), trial, gated=False)
    assert (values(j, "conformal_95", "removed_noise") == 1).all()
    assert (values(j, "conformal_95", "overwritten_tones") == 1).all()
    assert (values(j, "threshold_free", "tone_auc") == 0.5).all()


def test_a_window_named_ambient_publishes_nothing_where_maps_ask_for_a_class(trial: Trial) -> None:
    asked = trial.asked.copy()
    asked[3] = SILENT
    silent = dataclasses.replace(trial, asked=asked)
    gated = judge(Oracle(), silent, gated=True, cuts=(0.65,))
    for point in ("conformal_86", "cut_65"):
        assert values(gated, point, "overwritten_tones").tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert values(gated, "threshold_free", "ot_at_rn_86")[3] == 1
    assert silent.named_rightly == 7 / 8
    blind = judge(Tpsw(9), silent, gated=False)
    assert values(blind, "conformal_86", "overwritten_tones")[3] < 1


def test_another_class_named_is_judged_by_the_tones_of_the_true_one(trial: Trial) -> None:
    wrong = dataclasses.replace(trial, asked=(trial.asked + 1) % SILENT)
    assert (values(judge(Oracle(), wrong, gated=True), "conformal_95", "overwritten_tones") > 0.5).all()


def test_removal_on_source_free_windows_is_nominal(trial: Trial) -> None:
    further = source_free(STANDARD, SPEC, LABELS, 40, first=CALM_FIRST + 1000)
    thresholds = thresholds_of(Tpsw(9), trial.calm, gated=False)
    maps = Tpsw(9).maps(further, np.zeros(len(further), np.int64))[:, SPEC.row_lo :]
    own = Tpsw(9).maps(trial.calm, np.zeros(len(trial.calm), np.int64))[:, SPEC.row_lo :]
    for q in LEVELS:
        removed = (maps <= thresholds[q][0]).mean(axis=(1, 2))
        spread = (own <= thresholds[q][0]).mean(axis=(1, 2)).std()
        # recordings scatter around q, on both sides of the comparison
        error = spread * np.sqrt(1 / len(own) + 1 / len(removed))
        assert abs(removed.mean() - q) < 4 * error
        assert spread < 0.1


def test_thresholds_are_set_per_class_where_maps_ask_for_one(trial: Trial) -> None:
    class ByClass:
        name = "by class"

        def maps(self, scene: Scene, cls: np.ndarray) -> np.ndarray:
            return Tpsw().maps(scene, cls) + 100.0 * cls[:, None, None].astype(np.float32)

    got = thresholds_of(ByClass(), trial.calm, (0.95,), gated=True)[0.95]
    np.testing.assert_allclose(np.diff(got[:SILENT]), 100.0, atol=1e-3)
    assert np.isinf(got[SILENT])


@pytest.mark.parametrize("bad", ["shape", "nan"])
def test_maps_that_cannot_be_judged_are_refused_by_name(trial: Trial, bad: str) -> None:
    class Bad:
        name = "bad one"

        def maps(self, scene: Scene, cls: np.ndarray) -> np.ndarray:
            maps = np.zeros(scene.spectrum_db.shape, np.float32)
            maps[0, 100, 3] = np.nan
            return maps if bad == "nan" else maps[:, :-1]

    with pytest.raises(ValueError, match="'bad one' gave maps"):
        judge(Bad(), trial, gated=False)


def test_windows_come_in_equal_shares_two_of_each_recording(trial: Trial) -> None:
    assert trial.test.windows.counts() == {**dict.fromkeys(STANDARD.labels, 2), AMBIENT: 0}
    assert len(set(trial.groups)) == 4
    assert len(make_trial(STANDARD, 1, 9, SPEC, LABELS, n_calm=24).test) == 16
    assert (trial.asked == trial.test.windows.y).all()
    assert len(set(trial.calm.windows.groups)) == len(trial.calm) >= MIN_CALM


def test_the_seed_makes_the_windows(trial: Trial) -> None:
    again = make_trial(STANDARD, 1, 8, SPEC, LABELS, n_calm=48)
    np.testing.assert_array_equal(again.test.audio, trial.test.audio)
    np.testing.assert_array_equal(again.calm.features, trial.calm.features)
    other = make_trial(STANDARD, 2, 8, SPEC, LABELS, n_calm=24)
    assert not np.array_equal(other.test.audio, trial.test.audio)
    np.testing.assert_array_equal(other.calm.features, trial.calm.features[:24])


def test_who_names_the_windows_is_asked(trial: Trial) -> None:
    named = make_trial(STANDARD, 1, 8, SPEC, LABELS, lambda scene: np.full(len(scene), 2), n_calm=24)
    assert (named.asked == 2).all()
    assert named.named_rightly == 0.25


@pytest.mark.parametrize(
    ("scenario", "seed", "n", "labels", "word"),
    [
        ("standard", 1, 0, LABELS, "number of windows is 0"),
        ("standard", 1, 10**6, LABELS, "number of windows is 1000000"),
        ("standard", -1, 8, LABELS, "fresh seed is -1"),
        ("empty", 1, 8, LABELS, "'empty' has no vessels"),
        ("standard", 1, 8, ("whale", AMBIENT), "the bundle knows whale, ambient"),
    ],
)
def test_what_does_not_fit_is_said(scenario: str, seed: int, n: int, labels: tuple[str, ...], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        make_trial(SCENARIOS[scenario], seed, n, SPEC, labels)


def test_a_trial_needs_source_free_windows_enough_and_truth(trial: Trial) -> None:
    few = trial.calm.take(np.arange(MIN_CALM - 1))
    lines = {label: STANDARD.canonical_lines(label) for label in STANDARD.labels}
    with pytest.raises(ValueError, match=f"of {MIN_CALM - 1} recordings"):
        trial_of(trial.test, few, lines, 0)
    with pytest.raises(ValueError, match="hold windows of a vessel"):
        trial_of(trial.test, trial.test, lines, 0)
    with pytest.raises(ValueError, match="labels asked for"):
        trial_of(trial.test, trial.calm, lines, 9)
    blank = dataclasses.replace(trial.test.windows, truths=(None,) * len(trial.test.windows.clips))
    with pytest.raises(ValueError, match="without truth"):
        trial_of(dataclasses.replace(trial.test, windows=blank), trial.calm, lines, 0)
