"""The run-time half: steady lines are found, strange windows score higher, a batch changes nothing."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.errors import BundleError
from models.feature_spec import FeatureSpec
from models.line_evidence import EVEN_EVIDENCE, line_evidence, line_weight
from models.rejection import PARTS, Rejection

F64 = npt.NDArray[np.float64]
SPEC = FeatureSpec()
LABELS = ("a", "b", "ambient")


def noise(n: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Power of noise windows ``(n, n_freq, n_time)``: exponential, mean 1, one draw per four overlapping columns."""
    rng = np.random.default_rng(seed)
    draws = rng.exponential(1.0, (n, SPEC.n_freq, SPEC.n_time // 4))
    return np.repeat(draws, 4, axis=2)


def features(power: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    db = 10.0 * np.log10(power + 1e-9)
    scaled = (db - SPEC.floor_db) / (SPEC.ceil_db - SPEC.floor_db)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)[:, None]


def rejection(**changes: Any) -> Rejection:
    n, d, p = len(LABELS), 4, len(PARTS)
    rng = np.random.default_rng(5)
    values: dict[str, Any] = {
        "labels": LABELS, "log_odds": rng.normal(0.0, 1.0, (n, SPEC.n_freq)), "offset": np.array([0.3, -0.2, 0.1]),
        "mean": rng.normal(0.0, 1.0, (n, d)), "precision": np.eye(d), "centre": np.zeros((n, p)),
        "scale": np.ones((n, p)), "weight": np.array([1.0, 0.1, 0.1]), "limit": np.full(n, 3.0),
    }  # fmt: skip
    return Rejection(**(values | changes))


def batch(n: int = 24, seed: int = 3) -> tuple[F64, F64, F64]:
    rng = np.random.default_rng(seed)
    evidence = np.where(rng.random((n, SPEC.n_freq)) < 0.05, rng.exponential(10.0, (n, SPEC.n_freq)), 0.0)
    return rng.normal(0.0, 3.0, (n, len(LABELS))), rng.normal(0.0, 1.0, (n, 4)), evidence


def test_steady_lines_are_found_where_they_are() -> None:
    rows = [20, 61, 130, 199]  # none a multiple of 50 or 60 Hz
    power = noise(8)
    power[:, rows] += 4.0  # 6 dB over noise
    found = line_evidence(features(power), SPEC)
    assert (found[:, rows] > EVEN_EVIDENCE).all()


def test_noise_alone_holds_hardly_any_line() -> None:
    found = line_weight(line_evidence(features(noise(40, seed=1)), SPEC)).sum(axis=1)
    # 16 draws per row here (a real window has 33): the mean of 16 exponentials passes evidence 6 once in some 600 rows
    assert found.mean() < 1.5


def test_bursts_and_clicks_are_no_lines() -> None:
    quiet = line_evidence(features(noise(8)), SPEC)
    power = noise(8)
    power[:, 77, 8:16] += 30.0  # one second in one row
    power[:, :, 40:44] += 30.0  # half a second in all rows
    loud = line_evidence(features(power), SPEC)
    assert (loud[:, 77] < EVEN_EVIDENCE).all()
    assert line_weight(loud).sum(axis=1).mean() < line_weight(quiet).sum(axis=1).mean() + 1.0


def test_hum_counts_for_nothing_but_a_single_line_there_does() -> None:
    power = noise(4)
    power[:, [25, 75, 125]] += 8.0  # 50, 150, 250 Hz
    power[:, 90] += 8.0  # 180 Hz: one multiple of 60 is no hum
    found = line_evidence(features(power), SPEC)
    assert not found[:, [25, 75, 125]].any()
    assert (found[:, 90] > EVEN_EVIDENCE).all()


def test_evidence_of_a_window_does_not_depend_on_its_batch() -> None:
    x = features(noise(70, seed=2))  # more than one chunk
    whole = line_evidence(x, SPEC)
    assert np.array_equal(whole, np.concatenate([line_evidence(x[i : i + 1], SPEC) for i in range(len(x))]))


@pytest.mark.parametrize("value", [0.0, 0.2, 1.0])
def test_constant_windows_hold_no_line(value: float) -> None:
    assert not line_evidence(np.full((2, *SPEC.shape), value, np.float32), SPEC).any()


def test_a_window_that_is_not_finite_is_nan_and_leaves_others_alone() -> None:
    x = features(noise(3))
    clean = line_evidence(x, SPEC)
    x[1, 0, 100, 5] = np.nan
    found = line_evidence(x, SPEC)
    assert np.isnan(found[1]).all()
    assert np.array_equal(found[[0, 2]], clean[[0, 2]])


def test_evidence_refuses_another_shape() -> None:
    with pytest.raises(ValueError, match="front end gives"):
        line_evidence(np.zeros((2, 1, 8, 8), np.float32), SPEC)


def test_lines_part_is_the_poisson_ratio() -> None:
    r = rejection()
    logits, embedding, evidence = batch()
    named = logits.argmax(axis=1)
    expected = (line_weight(evidence) * r.log_odds[named]).sum(axis=1) + r.offset[named]
    np.testing.assert_allclose(r.parts(logits, embedding, evidence)[:, 0], expected, rtol=1e-12)


def test_doubt_is_the_logarithm_of_what_the_largest_probability_leaves() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.01, 0.01, 0.98]]))
    _, embedding, evidence = batch(2)
    doubt = rejection().parts(logits, embedding, evidence)[:, 1]
    np.testing.assert_allclose(doubt, np.log(np.array([0.3, 0.02]) + 1e-4), rtol=1e-9)


def test_distance_of_whitened_data_is_euclidean() -> None:
    rng = np.random.default_rng(7)
    a = rng.normal(0.0, 1.0, (4, 4)) + 3.0 * np.eye(4)
    r = rejection(precision=a.T @ a)  # e -> a e whitens
    logits, embedding, evidence = batch()
    away = (embedding - r.mean[logits.argmax(axis=1)]) @ a.T
    np.testing.assert_allclose(
        r.parts(logits, embedding, evidence)[:, 2], np.linalg.norm(away, axis=1), rtol=1e-9
    )  # fmt: skip


def test_scores_do_not_depend_on_the_batch() -> None:
    r, (logits, embedding, evidence) = rejection(), batch()
    whole = r.score(logits, embedding, evidence)
    single = [r.score(logits[i : i + 1], embedding[i : i + 1], evidence[i : i + 1])[0] for i in range(len(whole))]
    order = np.random.default_rng(0).permutation(len(whole))
    assert whole.tolist() == single
    assert np.array_equal(r.score(logits[order], embedding[order], evidence[order]), whole[order])


def test_an_empty_batch_gives_nothing() -> None:
    r = rejection()
    empty = (np.zeros((0, 3)), np.zeros((0, 4)), np.zeros((0, SPEC.n_freq)))
    assert r.score(*empty).shape == (0,)
    assert r.unknown(*empty).shape == (0,)


@pytest.mark.parametrize("odd", [0.0, 1e6, -1e6])
def test_scores_of_odd_but_finite_input_are_finite(odd: float) -> None:
    r = rejection()
    logits = np.full((2, 3), odd)
    assert np.isfinite(r.score(logits, np.full((2, 4), odd), np.full((2, SPEC.n_freq), abs(odd)))).all()


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_unknown_even_without_a_limit(which: int, bad: float) -> None:
    r = rejection(limit=np.full(3, np.inf))
    arrays = [a.copy() for a in batch(3)]
    arrays[which][1, 0] = bad
    assert r.unknown(*arrays).tolist() == [False, True, False]
    assert r.score(*arrays)[1] == math.inf


def test_unknown_is_above_the_limit_of_the_label_named() -> None:
    logits, embedding, evidence = batch()
    score, named = rejection().score(logits, embedding, evidence), logits.argmax(axis=1)
    own = np.array([np.median(score[named == c]) for c in range(3)])
    r = rejection().with_limit(own)
    assert np.array_equal(r.unknown(logits, embedding, evidence), score > own[named])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("offset", np.array([0.0, math.nan, 0.0])),
        ("mean", np.full((3, 4), math.inf)),
        ("limit", np.array([1.0, 1.0, math.nan])),
        ("scale", np.zeros((3, 3))),
        ("weight", np.array([1.0, -0.1, 0.0])),
        ("precision", np.eye(5)),
        ("log_odds", np.zeros((2, 8))),
    ],
)
def test_parameters_that_make_no_sense_are_refused(name: str, value: F64) -> None:
    with pytest.raises(ValueError, match=name if name not in ("scale", "weight") else "positive"):
        rejection(**{name: value})


def test_parameters_are_read_only() -> None:
    r = rejection()
    with pytest.raises(ValueError, match="read-only"):
        r.limit[0] = 0.0


def test_arrays_come_back_the_same_through_json() -> None:
    r = rejection(limit=np.array([1.0, 2.0, np.inf]))
    stored = json.loads(json.dumps({k: v.tolist() for k, v in r.to_arrays().items()}))
    again = Rejection.from_arrays(LABELS, stored)
    logits, embedding, evidence = batch()
    assert np.array_equal(again.score(logits, embedding, evidence), r.score(logits, embedding, evidence))
    assert np.array_equal(again.limit, r.limit)


def test_shapes_are_those_of_the_arrays() -> None:
    arrays = rejection().to_arrays()
    assert {k: v.shape for k, v in arrays.items()} == Rejection.shapes(len(LABELS), SPEC.n_freq, 4)
    assert {v.dtype for v in arrays.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("change", [{"extra": [1.0]}, {"limit": [1.0]}, {"mean": [["x"]]}, {"limit": None}])
def test_stored_arrays_that_do_not_fit_are_a_bundle_error(change: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {k: v.tolist() for k, v in rejection().to_arrays().items()} | change
    with pytest.raises(BundleError, match="calibrate the bundle again"):
        Rejection.from_arrays(LABELS, {k: v for k, v in arrays.items() if v is not None})


def test_shapes_of_a_batch_must_fit() -> None:
    logits, embedding, evidence = batch()
    with pytest.raises(ValueError, match="embedding of shape"):
        rejection().score(logits, embedding[:5], evidence)
