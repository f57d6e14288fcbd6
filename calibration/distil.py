"""Train the student on what the slow explanation says of the training windows. Needs torch; no truth is seen."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from calibration.dataset import AMBIENT, Progress, WindowSet, no_progress
from models.student import Student, StudentConfig

__all__ = ["Teacher", "distil", "lessons"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

N_EPOCHS, BATCH, RATE = 12, 32, 4e-3
#: Explanations asked of the teacher at most, half of them of the window's own class.
MAX_LESSONS = 1600
#: Cells that prove a class are few; each counts so many times.
POSITIVE_WEIGHT = 4.0


class Teacher(Protocol):
    """The slow explanation."""

    def explain_all(self, features: F32, cls: npt.ArrayLike, spectra_db: F32) -> tuple[F32, F32]:
        """``cam`` and score map, each ``(n, n_freq, n_time)``."""


def lessons(
    teacher: Teacher, windows: WindowSet, *, seed: int = 0, progress: Progress = no_progress
) -> tuple[I64, I64, F32]:
    """Which window is asked for which class, and the teacher's map: ``(index, cls, maps)``.

    Each window of a class is asked for its own class and for one other, each ambient window for one class: what the
    teacher does not find, the student must not find either.
    """
    rng = np.random.default_rng(seed)
    ambient = windows.labels.index(AMBIENT)
    n_classes = len(windows.labels) - 1
    classes = np.array([c for c in range(len(windows.labels)) if c != ambient])
    other = rng.choice(classes, len(windows))
    if n_classes > 1:
        while (same := other == windows.y).any():
            other[same] = rng.choice(classes, int(same.sum()))
    own = _some(np.flatnonzero(windows.y != ambient), rng)
    asked_other = _some(np.flatnonzero(other != windows.y), rng)
    index = np.concatenate([own, asked_other])
    cls = np.concatenate([windows.y[own], other[asked_other]])
    maps = np.empty((len(index), *windows.features.shape[2:]), np.float16)  # half the memory, error below 5e-4
    step = 64
    for i in range(0, len(index), step):
        progress("slow explanations", i, len(index))
        part = index[i : i + step]
        maps[i : i + step] = teacher.explain_all(
            windows.features[part], cls[i : i + step].astype(np.int32), windows.spectra_of(part)
        )[1]
    progress("slow explanations", len(index), len(index))
    return index, cls, maps.astype(np.float32, copy=False) if maps.nbytes < 1 << 20 else maps


def _some(index: I64, rng: np.random.Generator) -> I64:
    return index if index.size <= MAX_LESSONS // 2 else np.sort(rng.choice(index, MAX_LESSONS // 2, replace=False))


def distil(
    features: F32, lesson: tuple[I64, I64, F32], n_labels: int, *, seed: int = 0, n_epochs: int = N_EPOCHS,
    progress: Progress = no_progress,
) -> Student:  # fmt: skip
    """The trained student, in evaluation mode.

    Parameters
    ----------
    features
        ``(n, n_planes, n_freq, n_time)`` all windows.
    lesson
        From `lessons`.
    """
    index, cls, maps = lesson
    n_planes, n_freq, n_time = features.shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(StudentConfig(n_labels=n_labels, n_planes=n_planes, n_freq=n_freq, n_time=n_time))
        generator = torch.Generator().manual_seed(seed)
        n_steps = n_epochs * -(-len(index) // BATCH)
        optimiser = torch.optim.AdamW(student.parameters(), RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=n_steps)
        weight = torch.tensor(POSITIVE_WEIGHT)
        student.train()
        for epoch in range(n_epochs):
            progress("student", epoch, n_epochs)
            for part in torch.split(torch.randperm(len(index), generator=generator), BATCH):
                chosen = part.numpy()
                x, y = torch.from_numpy(features[index[chosen]]), torch.from_numpy(maps[chosen].astype(np.float32))
                shift = int(torch.randint(n_time, (1,), generator=generator))
                loss = _loss(student, x.roll(shift, 3), torch.from_numpy(cls[chosen]), y.roll(shift, 2), weight)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
    progress("student", n_epochs, n_epochs)
    return student.eval()


def _loss(student: Student, x: Tensor, cls: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(student.logits(x, cls), y, pos_weight=weight)
