"""The live explanation held against the slow one: when, how the overlap is told, when it warns."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from models.check import MEMORY, CheckedExplainer, agreement
from models.verdict import Detection, Verdict


def verdict(score: np.ndarray | None) -> Verdict:
    found = () if score is None else (Detection("a", 0.9, score),)
    return Verdict(found, score is None, False, np.array([0.9, 0.1], np.float32), "a/0", 0.0, None, {}, 0.0)


class Fixed:
    """Gives the same map for every window; ambient where the first feature is 0."""

    max_batch = 4

    def __init__(self, score: np.ndarray) -> None:
        self.score, self.n = score, 0

    def explain(self, features, spectra_db=None, *, by_network=True) -> list[Verdict]:  # noqa: ANN001  (a stand-in)
        self.n += len(features)
        return [verdict(self.score if f.flat[0] else None) for f in features]


def rows(*which: int) -> np.ndarray:
    score = np.zeros((4, 2), np.float32)
    score[list(which)] = 1.0
    return score


HEARD, QUIET = np.ones((1, 4, 2), np.float32), np.zeros((1, 4, 2), np.float32)


def test_agreement_is_intersection_over_union() -> None:
    assert agreement(rows(0, 1), rows(1, 2), 0.5) == pytest.approx(1 / 3)
    assert agreement(rows(), rows(), 0.5) == 1.0
    assert agreement(rows(0), rows(1), 0.5) == 0.0


def test_every_so_many_th_detection_is_checked_and_no_quiet_window() -> None:
    full = Fixed(rows(0, 1))
    checked = CheckedExplainer(Fixed(rows(0)), full, {"a": 0.5}, 3)  # type: ignore[arg-type]
    told = [v.agreement for v in checked.explain([HEARD, QUIET, HEARD, HEARD, QUIET, HEARD])]
    told += [v.agreement for v in checked.explain([HEARD, HEARD])]
    assert told == [None, None, None, 0.5, None, None, None, 0.5]
    assert full.n == 2


def test_lasting_disagreement_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    checked = CheckedExplainer(Fixed(rows(0)), Fixed(rows(1)), {"a": 0.5}, 1)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        checked.explain([HEARD] * (MEMORY - 1))
        assert not caplog.records
        checked.explain([HEARD] * 5)
    assert len(caplog.records) == 1
    assert "explanation.mode = 'full'" in caplog.text


def test_a_check_of_no_window_is_our_error() -> None:
    with pytest.raises(ValueError, match="every=0"):
        CheckedExplainer(Fixed(rows(0)), Fixed(rows(0)), {}, 0)  # type: ignore[arg-type]
