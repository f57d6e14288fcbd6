"""Fit and figures: limits hold on exchangeable windows, strangers stand out, known answers come out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calibration.open_set import RIDGE, fit, gaussians, limits
from calibration.samples import Sample
from calibration.separation import fpr95, separation
from calibration.thresholds import auroc
from models.feature_spec import FeatureSpec
from models.rejection import Rejection

SPEC = FeatureSpec(n_freq=128)
LABELS = ("a", "b", "ambient")
TABLES = ([20, 33, 47, 60, 75], [24, 41, 52, 68, 90], [])
FOREIGN = 2.0


def windows(label: int, n_recordings: int, seed: int, *, rows: list[int] | None = None, per: int = 4) -> Sample:
    """Recordings of a label (-1: strange, ``rows`` its lines, named ambient), windows of one recording alike."""
    rng = np.random.default_rng([seed, label + 1])
    named = 2 if label < 0 else label
    evidence, logits, embedding, groups = [], [], [], []
    for r in range(n_recordings):
        table = [f for f in (TABLES[label] if rows is None else rows) if rng.random() < 0.9]
        table += rng.integers(8, 126, rng.poisson(FOREIGN)).tolist()
        centre = rng.normal(0.0, 1.0, 4) + 5.0 * np.eye(3, 4)[named]
        for _ in range(per):
            e = np.zeros(SPEC.n_freq)
            e[table] = rng.uniform(8.0, 30.0, len(table))
            evidence.append(e)
            logits.append(6.0 * np.eye(3)[named] + rng.normal(0.0, 0.5, 3))
            embedding.append(centre + rng.normal(0.0, 0.3, 4))
            groups.append(1000 * seed + 100 * (label + 1) + r)
    n = len(groups)
    return Sample(np.full(n, label), np.array(groups), np.array(logits), np.array(embedding), np.array(evidence))


def joined(*samples: Sample) -> Sample:
    names = ("y", "groups", "logits", "embedding", "evidence")
    return Sample(*(np.concatenate([getattr(s, n) for s in samples]) for n in names))


def known(n_recordings: int, seed: int, per: int = 4) -> Sample:
    return joined(*(windows(c, n_recordings, seed, per=per) for c in range(3)))


def fitted(share: float = 0.05) -> Rejection:
    return fit(known(30, 1), known(60, 2, per=1), LABELS, SPEC, share=share)


def test_limits_reject_no_more_than_their_share_of_fresh_windows() -> None:
    # one window per recording: exchangeable; 20 fits, so that the luck of one held-out set does not decide
    shares = []
    for seed in range(20):
        r = fit(known(20, 100), known(40, 200 + seed, per=1), LABELS, SPEC, share=0.1)
        fresh = known(50, 300 + seed, per=1)
        shares.append(r.unknown(fresh.logits, fresh.embedding, fresh.evidence).mean())
    assert np.mean(shares) <= 0.1 + 3 * np.std(shares, ddof=1) / math.sqrt(len(shares))
    assert np.mean(shares) > 0.04  # and it does not hold by rejecting nothing


def test_strange_vessels_named_ambient_are_found_by_their_lines() -> None:
    r = fitted()
    strange = windows(-1, 40, 3, rows=[15, 29, 38, 55, 63, 81, 97, 110])
    assert (strange.named == 2).all()
    assert r.unknown(strange.logits, strange.embedding, strange.evidence).mean() > 0.9
    sea = windows(2, 40, 4)
    scores = [r.score(s.logits, s.embedding, s.evidence) for s in (sea, strange)]
    assert auroc(*scores) > 0.97
    # the network alone sees nothing: logits and embeddings of the two are drawn alike
    blind = Rejection.from_arrays(LABELS, r.to_arrays() | {"weight": np.array([0.0, 1.0, 1.0])})
    assert auroc(*(blind.score(s.logits, s.embedding, s.evidence) for s in (sea, strange))) < 0.7


def test_lines_of_the_named_class_speak_for_it_and_others_against_it() -> None:
    r = fitted()
    assert (r.log_odds[0, TABLES[0]] < 0).all()
    assert (r.log_odds[0, [15, 29, 110]] > 0).all()
    assert (r.log_odds[2, SPEC.row_lo + 1 :] > 0).all()  # any line speaks against an empty sea


def test_a_fit_is_the_same_each_time() -> None:
    a, b = fitted().to_arrays(), fitted().to_arrays()
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_a_label_that_is_never_named_has_no_limit() -> None:
    assert limits([1.0, 2.0, 3.0], [0, 0, 2], 3, 0.1).tolist() == [2.0, math.inf, 3.0]


def test_precision_is_the_inverse_of_the_covariance_within_labels() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 4000)
    mixing = rng.normal(0.0, 1.0, (3, 3)) + 2.0 * np.eye(3)
    e = rng.normal(0.0, 1.0, (8000, 3)) @ mixing.T + np.array([[0.0, 0.0, 0.0], [9.0, -4.0, 1.0]])[y]
    mean, precision = gaussians(e, y, 2)
    np.testing.assert_allclose(mean[1] - mean[0], [9.0, -4.0, 1.0], atol=0.25)  # 4 errors of 4000 draws
    covariance = mixing @ mixing.T
    ridge = RIDGE * np.trace(covariance) / 3
    # 8000 draws: an entry of the covariance errs by about s_i s_j / sqrt(8000), 1 % of the largest
    found = np.linalg.inv(precision)
    np.testing.assert_allclose(found, covariance + ridge * np.eye(3), atol=0.05 * covariance.max())


def test_one_embedding_per_label_still_gives_a_precision() -> None:
    _, precision = gaussians(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0, 1]), 2)
    assert np.isfinite(precision).all()


@pytest.mark.parametrize("part", ["train", "held"])
def test_a_label_without_windows_is_named(part: str) -> None:
    whole, without = known(4, 1), joined(windows(0, 4, 1), windows(2, 4, 1))
    with pytest.raises(ValueError, match=f"{part} holds no windows of 'b'"):
        fit(*((without, whole) if part == "train" else (whole, without)), LABELS, SPEC)


@pytest.mark.parametrize("name", ["logits", "embedding", "evidence"])
def test_samples_refuse_what_is_not_finite(name: str) -> None:
    s = known(2, 1)
    arrays = {n: getattr(s, n).copy() for n in ("y", "groups", "logits", "embedding", "evidence")}
    arrays[name][0, 0] = math.nan
    with pytest.raises(ValueError, match=f"{name} holds values that are not finite"):
        Sample(**arrays)


def test_fpr95_counts_known_windows_above_what_most_strangers_reach() -> None:
    strange = np.arange(100.0)  # 95 of them are at or above 5
    assert fpr95([4.0, 4.9, 5.0, 60.0], strange) == 0.5
    assert fpr95(np.zeros(4), np.ones(9)) == 0.0
    assert fpr95(np.ones(4), np.zeros(9)) == 1.0
    assert math.isnan(fpr95([], [1.0]))


def test_separation_of_apart_and_of_alike() -> None:
    rng = np.random.default_rng(0)
    groups, strange = np.repeat(np.arange(100), 4), np.repeat([False, True], 200)
    apart = separation(np.where(strange, 2.0, 0.0) + rng.random(400), strange, groups)
    assert (apart.auroc, apart.fpr95, apart.auroc_se) == (1.0, 0.0, 0.0)
    alike = separation(rng.random(400), strange, groups)
    assert abs(alike.auroc - 0.5) < 4 * alike.auroc_se
    # 200 against 200 independent windows: sqrt(401 / (12 * 200^2)) by Mann and Whitney
    assert alike.auroc_se == pytest.approx(math.sqrt(401 / 12) / 200, rel=0.35)


def test_errors_go_by_recording_not_by_window() -> None:
    rng = np.random.default_rng(1)
    strange = np.repeat([False, True], 20)
    level = rng.random(40)
    once = separation(level, strange, np.arange(40))
    # each window eight times over is no more knowledge
    eight = separation(np.repeat(level, 8), np.repeat(strange, 8), np.repeat(np.arange(40), 8))
    assert eight.auroc == once.auroc
    assert eight.auroc_se == pytest.approx(once.auroc_se, rel=0.2)


def test_separation_refuses_nan_and_takes_infinity() -> None:
    with pytest.raises(ValueError, match="nan"):
        separation([0.0, math.nan], [False, True], [0, 1])
    assert separation([0.0, math.inf], [False, True], [0, 1]).auroc == 1.0
