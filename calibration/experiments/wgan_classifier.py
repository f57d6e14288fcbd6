"""The classifier of the generator's trial: a Spec-CNN trained for a fixed number of steps, with no validation set.

Whether generated windows help is asked where data are few, so none are kept aside to stop by, and all rivals get the
same steps. Four neighbouring columns are averaged first: lines stay in their rows, and a training takes seconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.dataset import Dataset
from models.spec_cnn import SpecCnn, SpecCnnConfig
from models.wgan_generated import refuse_generated

__all__ = ["AVERAGED", "accuracy", "embeddings", "train_classifier"]

F32 = npt.NDArray[np.float32]

#: Columns averaged into one.
AVERAGED = 4
BATCH, RATE, DECAY, SMOOTHING = 32, 3e-3, 1e-3, 0.05


def train_classifier(data: Dataset, n_steps: int, seed: int) -> SpecCnn:
    """A Spec-CNN after ``n_steps`` batches; the same seed gives the same weights.

    Optimiser, schedule and the circular shift along time are those of `models.train`.
    """
    _, n_planes, n_freq, n_time = data.features.shape
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        network = SpecCnn(
            SpecCnnConfig(n_labels=len(data.labels), n_planes=n_planes, n_freq=n_freq, n_time=n_time // AVERAGED)
        )
        optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=n_steps)
        y = torch.from_numpy(data.y)
        order: list[int] = []
        for _ in range(n_steps):
            while len(order) < BATCH:
                order += rng.permutation(len(data.y)).tolist()
            pick, order = order[:BATCH], order[BATCH:]
            x = np.roll(data.features[pick], int(rng.integers(n_time)), axis=3)
            loss = nn.functional.cross_entropy(network(_averaged(x)), y[pick], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def accuracy(network: SpecCnn, test: Dataset) -> float:
    """Share of windows named rightly, mean over labels.

    Raises
    ------
    UsageError
        If a test window was generated.
    """
    refuse_generated(test.groups, "a test")
    said = np.concatenate([logits.argmax(1).numpy() for logits, _ in _answers(network, test.features)])
    return float(np.mean([(said[test.y == c] == c).mean() for c in np.unique(test.y)]))


def embeddings(network: SpecCnn, features: F32) -> F32:
    """Second dense layer ``(n, n_embedding)`` of windows."""
    return np.concatenate([e.numpy() for _, e in _answers(network, features)])


@torch.no_grad()
def _answers(network: SpecCnn, features: F32) -> list[tuple[Tensor, Tensor]]:
    return [network.head(network.trunk(_averaged(features[i : i + 64]))) for i in range(0, len(features), 64)]


def _averaged(x: F32) -> Tensor:
    n, p, f, t = x.shape
    return torch.from_numpy(x.reshape(n, p, f, t // AVERAGED, AVERAGED).mean(4))
