r"""Noise2Self in time: a denoiser of LOFARgrams that learns from noisy windows alone.

Batson & Royer (ICML 2019): a function that may not look at a cell itself can only predict what the cell has in common
with its surroundings, so with independent noise

.. math:: E \| g(x) - x \|^2 = E \| g(x) - s \|^2 + E \| n \|^2

is least where ``g`` is the best estimate of the signal ``s``. Frames that overlap share samples, so their noise is not
independent: column ``t`` is predicted from the columns ``t -+ lag`` alone with ``lag >= n_fft / hop``, which share
none. Tonals last and are predicted; noise, clicks and passing calls are not.

The network: the lagged columns as planes, three convolutions along frequency, one 1 x 1 convolution. Columns that lie
outside the window are taken from the other side of ``t``. Needs torch.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.errors import InputError, UsageError
from models.feature_spec import FeatureSpec

__all__ = ["Noise2Self", "Noise2SelfConfig", "first_lag"]

F32 = npt.NDArray[np.float32]

Progress = Callable[[str, int, int], None]
CONFIG = "config"
BATCH = 16


@contextmanager
def _one_thread() -> Iterator[None]:
    """The network is too small to share out; and sums come out the same however many processors there are."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def first_lag(spec: FeatureSpec) -> int:
    """Least distance of two columns that share no sample."""
    return math.ceil(spec.n_fft / spec.hop)


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise2SelfConfig:
    """Sizes and training.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    lag_lo: int = 4
    """Nearest column looked at, see `first_lag`."""
    lag_hi: int = 12
    """Farthest column looked at."""
    width: int = 16
    """Planes between the convolutions."""
    n_epochs: int = 6
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.lag_lo <= self.lag_hi:
            raise ValueError(f"lags {self.lag_lo}..{self.lag_hi} are no range of columns from 1 on")
        if min(self.width, self.n_epochs) < 1 or self.learning_rate <= 0:
            raise ValueError(
                f"width={self.width}, n_epochs={self.n_epochs}, learning_rate={self.learning_rate}: must be positive"
            )


class _Network(nn.Module):
    def __init__(self, config: Noise2SelfConfig) -> None:
        super().__init__()
        lags = range(config.lag_lo, config.lag_hi + 1)
        self.lags = [*lags, *(-lag for lag in lags)]
        w = config.width
        self.layers = nn.Sequential(
            nn.Conv2d(len(self.lags), w, (5, 1), padding=(2, 0)), nn.ReLU(),
            nn.Conv2d(w, w, (5, 1), padding=(2, 0)), nn.ReLU(),
            nn.Conv2d(w, w, (3, 1), padding=(1, 0)), nn.ReLU(),
            nn.Conv2d(w, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Predict ``(b, n_freq, n_time)`` from the other columns of ``x``, of the same shape."""
        n_time = x.shape[-1]
        t = torch.arange(n_time)
        planes = []
        for lag in self.lags:
            at = torch.where((t + lag < 0) | (t + lag >= n_time), t - lag, t + lag)
            planes.append(x[..., at])
        out: Tensor = self.layers(torch.stack(planes, dim=1))[:, 0]
        return out


class Noise2Self:
    """A trained denoiser; see the module text.

    Parameters
    ----------
    config
        Sizes; the weights follow from its seed until `fit` or `load`.
    """

    def __init__(self, config: Noise2SelfConfig) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._network = _Network(config)

    @classmethod
    def fit(
        cls, windows: F32, config: Noise2SelfConfig | None = None, *, progress: Progress = lambda *_: None
    ) -> Noise2Self:
        """Learn from noisy windows ``(n, n_freq, n_time)``, of any scale near 0..1.

        Raises
        ------
        UsageError
            If there are no windows, or too few columns for the lags.
        """
        out = cls(config or Noise2SelfConfig())
        c = out.config
        if not len(windows):
            raise UsageError("no windows to learn denoising from")
        out._check(windows)
        x = torch.from_numpy(np.array(windows, np.float32))
        optimiser = torch.optim.Adam(out._network.parameters(), c.learning_rate)
        order = torch.Generator().manual_seed(c.seed)
        n_batches = math.ceil(len(x) / BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, c.learning_rate, total_steps=c.n_epochs * n_batches)
        out._network.train()
        with _one_thread():
            for step in range(c.n_epochs * n_batches):
                if step % n_batches == 0:
                    batches = torch.split(torch.randperm(len(x), generator=order), BATCH)
                progress("self-supervised denoiser", step, c.n_epochs * n_batches)
                batch = x[batches[step % n_batches]]
                loss = nn.functional.mse_loss(out._network(batch), batch)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
        progress("self-supervised denoiser", c.n_epochs * n_batches, c.n_epochs * n_batches)
        return out

    @torch.no_grad()
    def denoise(self, windows: F32) -> F32:
        """Denoised windows, of the shape and scale of ``windows`` ``(n, n_freq, n_time)``."""
        self._check(windows)
        self._network.eval()
        out = np.empty(windows.shape, np.float32)
        with _one_thread():
            for i in range(0, len(windows), BATCH):
                x = torch.from_numpy(np.array(windows[i : i + BATCH], np.float32))
                out[i : i + BATCH] = self._network(x).numpy()
        return out

    def _check(self, windows: F32) -> None:
        if windows.ndim != 3 or windows.shape[2] <= 2 * self.config.lag_hi:
            raise UsageError(
                f"windows of shape {windows.shape}: (n, n_freq, n_time) with more than {2 * self.config.lag_hi} "
                "columns are needed"
            )

    def save(self, path: Path) -> None:
        """Write as npz, without pickle.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        arrays: dict[str, npt.NDArray[Any]] = {k: v.numpy() for k, v in self._network.state_dict().items()}
        arrays[CONFIG] = np.frombuffer(json.dumps(dataclasses.asdict(self.config)).encode(), np.uint8)
        try:
            with path.open("wb") as f:
                np.savez(f, allow_pickle=False, **arrays)
        except OSError as e:
            raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e

    @classmethod
    def load(cls, path: Path) -> Noise2Self:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, or is none of these.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                arrays = {k: file[k] for k in file.files}
            out = cls(Noise2SelfConfig(**json.loads(arrays.pop(CONFIG).tobytes())))
            out._network.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})
        except OSError as e:
            raise InputError(f"{path}: cannot be read: {e.strerror or e}") from e
        except (ValueError, KeyError, TypeError, RuntimeError, EOFError, zipfile.BadZipFile) as e:
            raise InputError(f"{path}: holds no denoiser: {' '.join(str(e).split())[:200]}") from e
        return out
