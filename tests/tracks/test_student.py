"""The student learns what it is taught, and no more of the window than the class."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration.dataset import AMBIENT, WindowSet
from calibration.distil import distil, lessons
from models.feature_spec import FeatureSpec
from models.student import Student, StudentConfig

LABELS = ("a", "b", AMBIENT)
SPEC = FeatureSpec(n_freq=32, n_time=16)
ROWS = {0: (8, 20), 1: (12, 26)}


def toy_windows(n: int, seed: int) -> WindowSet:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = np.clip(rng.normal(0.2, 0.1, (n, *SPEC.shape)), 0, 1).astype(np.float32)
    for i in range(n):
        x[i, 0, list(ROWS.get(int(y[i]), ()))] = 0.9
    zeros = np.zeros(n, np.int64)
    return WindowSet(SPEC, LABELS, (), (), x, y, zeros, zeros, zeros, (), np.zeros((n, *SPEC.shape[1:]), np.float32))


class Teacher:
    """Shows the rows of the class asked where they sound."""

    def explain_all(
        self, features: np.ndarray, cls: np.ndarray, spectra_db: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        maps = np.zeros((len(features), *SPEC.shape[1:]), np.float32)
        for i, c in enumerate(cls):
            if all(features[i, 0, r].mean() > 0.7 for r in ROWS[int(c)]):
                maps[i, list(ROWS[int(c)])] = 1.0
        return maps, maps


def test_lessons_ask_for_own_and_other_classes() -> None:
    windows = toy_windows(60, 0)
    index, cls, maps = lessons(Teacher(), windows, seed=1)
    own = windows.y[index] == cls
    assert own.sum() == 40
    assert maps[own].max(axis=(1, 2)).min() == 1.0
    assert maps[~own].max() == 0.0
    assert not (cls == LABELS.index(AMBIENT)).any()


def test_student_finds_the_rows_of_the_class_asked_and_nothing_of_another() -> None:
    windows, fresh = toy_windows(240, 0), toy_windows(30, 9)
    student = distil(windows.features, lessons(Teacher(), windows), len(LABELS), n_epochs=12)
    x, y = torch.from_numpy(fresh.features), torch.from_numpy(fresh.y)
    with torch.no_grad():
        a = student(x, torch.zeros(len(fresh), dtype=torch.int32)).numpy()
    own = a[fresh.y == 0]
    assert own[:, [8, 20]].mean() > 0.7
    assert own[:, [12, 26, 4]].mean() < 0.2
    assert a[fresh.y == 1].mean() < 0.15
    assert y.shape == (30,)


def test_student_is_the_same_for_the_same_seed() -> None:
    windows = toy_windows(48, 0)
    lesson = lessons(Teacher(), windows)
    one, two = (distil(windows.features, lesson, len(LABELS), n_epochs=1, seed=3) for _ in range(2))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_student_refuses_a_time_axis_it_cannot_pool() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        Student(StudentConfig(n_labels=2, n_time=12))
