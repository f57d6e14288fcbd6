"""Training of a Spec-CNN: seeded, resumable, early stopping, split checked, with a report.

Windows are only ever shifted along time (circularly): a shift along frequency would move the tonals that name the
class.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.dataset import Dataset
from models.errors import InputError, UsageError
from models.feature_spec import FeatureSpec
from models.spec_cnn import SpecCnn, SpecCnnConfig
from models.train_progress import epoch_bar
from models.wgan_generated import refuse_generated

__all__ = ["Dataset", "TrainOptions", "TrainReport", "load_network", "spec_of", "train"]

STATE, BEST, RUN, REPORT = "state.npz", "network.npz", "run.json", "training.json"
#: What numpy and torch raise on files that are not what they were.
DAMAGE = (ValueError, KeyError, RuntimeError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """How to train."""

    seed: int = 0
    n_epochs: int = 24
    """At most."""
    batch: int = 32
    learning_rate: float = 3e-3
    """At the top of the one-cycle schedule (Smith & Topin, 2019)."""
    weight_decay: float = 1e-3
    label_smoothing: float = 0.05
    patience: int = 8
    """Epochs without a better validation loss before it stops."""
    n_threads: int = 2


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What came out."""

    labels: tuple[str, ...]
    options: TrainOptions
    n_parameters: int
    n_windows: dict[str, int]
    n_groups: dict[str, int]
    fingerprint: dict[str, str]
    """SHA-256 of the training and validation sets."""
    best_epoch: int
    stopped_early: bool
    curve: list[dict[str, float]]
    """Per epoch: loss, val_loss, val_accuracy."""
    accuracy: float
    """On the validation set, with the best weights."""
    recall: dict[str, float | None]
    """Per label; None where the validation set holds none."""
    confusion: list[list[int]]
    """``[true][said]``, windows."""
    versions: dict[str, str]


def train(
    train_set: Dataset, val_set: Dataset, spec: FeatureSpec, out_dir: Path, options: TrainOptions | None = None
) -> TrainReport:
    """Train, or go on with the training that ``out_dir`` holds; leave network and report there.

    Raises
    ------
    UsageError
        If a group stands in both sets, a set is empty or lacks a label, the validation set holds generated windows, or
        ``out_dir`` holds another training.
    InputError
        If ``out_dir`` cannot be written or its state is damaged, or the validation loss is never a number.
    """
    options = options or TrainOptions()
    _check_split(train_set, val_set)
    config = SpecCnnConfig(
        n_labels=len(train_set.labels), n_planes=spec.n_planes, n_freq=spec.n_freq, n_time=spec.n_time
    )
    run = {
        "spec": spec.to_dict(), "network": config.to_dict(), "labels": list(train_set.labels),
        "options": dataclasses.asdict(options),
        "fingerprint": {"train": train_set.fingerprint(), "val": val_set.fingerprint()},
    }  # fmt: skip
    _claim(out_dir, run)
    torch.set_num_threads(options.n_threads)
    torch.set_flush_denormal(True)
    trainer = _Trainer(config, options, len(train_set.y), out_dir)
    trainer.resume()
    try:
        with epoch_bar(options.n_epochs) as show:
            while not trainer.over:
                show(trainer.epoch(train_set, val_set))
    except OSError as e:  # the state of the last whole epoch is on disk
        raise InputError(f"{out_dir}: cannot be written: {e.strerror or e}; the same command goes on from here") from e
    if trainer.best_epoch < 0:
        raise InputError(f"{out_dir}: the validation loss was never a number: the windows hold NaN or infinity")
    network = load_network(out_dir)
    said = _predict(network, val_set.features).argmax(1)
    report = _report(run, train_set, val_set, trainer, said, network)
    _write(out_dir / REPORT, json.dumps(dataclasses.asdict(report), indent=1).encode())
    return report


def load_network(out_dir: Path) -> SpecCnn:
    """The best network of a training, in evaluation mode.

    Raises
    ------
    InputError
        If the folder holds none, or one that is damaged.
    """
    try:
        run = json.loads((out_dir / RUN).read_text())
        network = SpecCnn(SpecCnnConfig.from_dict(run["network"]))
        with (out_dir / BEST).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            network.load_state_dict({k: torch.from_numpy(stored[k]) for k in stored.files})
    except FileNotFoundError as e:
        raise InputError(f"{out_dir}: holds no finished training ({Path(e.filename).name} is missing)") from None
    except DAMAGE as e:
        raise InputError(f"{out_dir}: the training is damaged: {_one_line(e)}") from e
    return network.eval()


def spec_of(out_dir: Path) -> FeatureSpec:
    """Front end of a training.

    Raises
    ------
    InputError
        If the folder holds none.
    """
    try:
        return FeatureSpec.from_dict(json.loads((out_dir / RUN).read_text())["spec"])
    except (OSError, ValueError, KeyError) as e:
        raise InputError(f"{out_dir}: holds no training: {e}") from e


class _Trainer:
    """Network, optimiser and counters; their state is on disk after each epoch."""

    def __init__(self, config: SpecCnnConfig, options: TrainOptions, n_windows: int, out_dir: Path) -> None:
        self.options, self._out_dir = options, out_dir
        torch.manual_seed(options.seed)
        self.network = SpecCnn(config)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), options.learning_rate, weight_decay=options.weight_decay
        )
        self._n_steps = options.n_epochs * math.ceil(n_windows / options.batch)
        self.curve: list[dict[str, float]] = []
        self.best_epoch = -1
        self._step = 0

    @property
    def over(self) -> bool:
        return len(self.curve) >= self.options.n_epochs or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        return len(self.curve) - 1 - self.best_epoch >= self.options.patience and self.best_epoch >= 0

    def epoch(self, train_set: Dataset, val_set: Dataset) -> dict[str, float]:
        """One pass over the training windows; returns the new row of the curve."""
        o = self.options
        rng = np.random.default_rng([o.seed, len(self.curve)])
        torch.manual_seed(int(rng.integers(2**62)))  # dropout: the same whether resumed or not
        order = rng.permutation(len(train_set.y))
        self.network.train()
        total = 0.0
        for i in range(0, order.size, o.batch):
            pick = order[i : i + o.batch]
            if pick.size < 2:  # batch normalisation has no variance of one window
                continue
            x = torch.from_numpy(train_set.features[pick])
            x = torch.roll(x, int(rng.integers(x.shape[3])), 3)
            loss = nn.functional.cross_entropy(
                self.network(x), torch.from_numpy(train_set.y[pick]), label_smoothing=o.label_smoothing
            )
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for group in self._optimizer.param_groups:
                group["lr"] = self._rate()
            self._optimizer.step()
            self._step += 1
            total += loss.item() * pick.size
        logits = _predict(self.network, val_set.features)
        val_loss = float(nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(val_set.y)))
        accuracy = float((logits.argmax(1) == val_set.y).mean())
        row = {"loss": total / order.size, "val_loss": val_loss, "val_accuracy": accuracy}
        best = min((r["val_loss"] for r in self.curve), default=math.inf)
        self.curve.append(row)
        if val_loss < best:
            self.best_epoch = len(self.curve) - 1
            _write_npz(self._out_dir / BEST, _weights(self.network))
        self._save()
        return row

    def _rate(self) -> float:
        """One-cycle schedule: up in the first 30 %, down to nothing, both by a cosine."""
        top, turn = self.options.learning_rate, 0.3 * self._n_steps
        if self._step < turn:
            return top * (0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * self._step / turn)))
        return top * 0.5 * (1 + math.cos(math.pi * min(1.0, (self._step - turn) / (self._n_steps - turn))))

    def _save(self) -> None:
        arrays = {f"w/{k}": v for k, v in _weights(self.network).items()}
        for i, p in enumerate(self.network.parameters()):
            for k, v in self._optimizer.state[p].items():
                arrays[f"o/{i}/{k}"] = v.detach().numpy()
        arrays["curve"] = np.array([list(r.values()) for r in self.curve])
        arrays["counters"] = np.array([self._step, self.best_epoch])
        _write_npz(self._out_dir / STATE, arrays)

    def resume(self) -> None:
        """Take up the state on disk, if there is one."""
        path = self._out_dir / STATE
        if not path.exists():
            return
        try:
            self._read(path)
        except DAMAGE as e:
            raise InputError(f"{path}: damaged: {_one_line(e)}; delete it to begin anew") from e

    def _read(self, path: Path) -> None:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as s:
            self.network.load_state_dict({k[2:]: torch.from_numpy(s[k]) for k in s.files if k.startswith("w/")})
            for i, p in enumerate(self.network.parameters()):
                prefix = f"o/{i}/"
                self._optimizer.state[p] = {
                    k[len(prefix) :]: torch.from_numpy(s[k]) for k in s.files if k.startswith(prefix)
                }
            names = ("loss", "val_loss", "val_accuracy")
            self.curve = [dict(zip(names, map(float, row), strict=True)) for row in s["curve"]]
            self._step, self.best_epoch = (int(v) for v in s["counters"])


def _one_line(e: BaseException) -> str:
    return " ".join(str(e).split())[:200]


def _weights(network: nn.Module) -> dict[str, npt.NDArray[Any]]:
    return {k: v.detach().numpy() for k, v in network.state_dict().items()}


@torch.no_grad()
def _predict(network: SpecCnn, features: npt.NDArray[np.float32], chunk: int = 64) -> npt.NDArray[np.float32]:
    """Logits ``(n, n_labels)``."""
    network.eval()
    parts: list[Tensor] = [network(torch.from_numpy(features[i : i + chunk])) for i in range(0, len(features), chunk)]
    logits: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def _check_split(train_set: Dataset, val_set: Dataset) -> None:
    refuse_generated(val_set.groups, "validation")
    if train_set.labels != val_set.labels:
        raise UsageError(f"training labels {train_set.labels} differ from validation labels {val_set.labels}")
    shared = sorted(set(train_set.groups) & set(val_set.groups))
    if shared:
        raise UsageError(f"'{shared[0]}' and {len(shared) - 1} more stand in both training and validation set")
    missing = [label for i, label in enumerate(train_set.labels) if not (train_set.y == i).any()]
    if missing:
        raise UsageError(f"no training window for {', '.join(missing)}: at least one recording of each is needed")
    if not len(val_set.y):
        raise UsageError("the validation set is empty: at least two recordings of each label are needed")


def _claim(out_dir: Path, run: dict[str, Any]) -> None:
    """Make the folder, or see that it holds the same training."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        if (out_dir / RUN).exists():
            if json.loads((out_dir / RUN).read_text()) != json.loads(json.dumps(run)):
                raise UsageError(f"{out_dir}: holds another training (data or options differ): choose another folder")
            return
        _write(out_dir / RUN, json.dumps(run, indent=1).encode())
    except OSError as e:
        raise InputError(f"{out_dir}: cannot be written: {e.strerror}") from e
    except json.JSONDecodeError as e:
        raise InputError(f"{out_dir / RUN}: damaged: {e}") from e


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def _write_npz(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as f:
        np.savez(f, allow_pickle=False, **arrays)
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def _report(
    run: dict[str, Any], train_set: Dataset, val_set: Dataset, trainer: _Trainer, said: npt.NDArray[Any], net: SpecCnn
) -> TrainReport:
    n = len(train_set.labels)
    confusion = np.zeros((n, n), int)
    np.add.at(confusion, (val_set.y, said), 1)
    recall = {
        label: float(confusion[i, i] / confusion[i].sum()) if confusion[i].any() else None
        for i, label in enumerate(train_set.labels)
    }
    return TrainReport(
        labels=train_set.labels,
        options=trainer.options,
        n_parameters=sum(p.numel() for p in net.parameters()),
        n_windows={"train": len(train_set.y), "val": len(val_set.y)},
        n_groups={"train": len(set(train_set.groups)), "val": len(set(val_set.groups))},
        fingerprint=run["fingerprint"],
        best_epoch=trainer.best_epoch,
        stopped_early=trainer.stopped_early,
        curve=trainer.curve,
        accuracy=float((said == val_set.y).mean()),
        recall=recall,
        confusion=confusion.tolist(),
        versions={"torch": torch.__version__, "numpy": np.__version__},
    )
