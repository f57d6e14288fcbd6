"""Training: it learns, repeats itself for a seed, goes on where it was cut off, and guards its split."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models import train as training
from models.errors import InputError, UsageError
from models.feature_spec import FeatureSpec
from models.spec_cnn import SpecCnnConfig
from models.train import Dataset, TrainOptions, load_network, spec_of, train

SPEC = FeatureSpec(n_freq=32, n_time=16)
LABELS = ("low", "high", "ambient")
ONE = 1  # threads: tiny tensors gain nothing from more
QUICK = TrainOptions(n_epochs=4, batch=8, n_threads=ONE)


def dataset(name: str, n_per_label: int, seed: int) -> Dataset:
    """Windows whose line, low or high, names the label."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.1, 0.3, (3 * n_per_label, 1, 32, 16)).astype(np.float32)
    y = np.repeat(np.arange(3), n_per_label)
    x[y == 0, :, 8] += 0.6
    x[y == 1, :, 24] += 0.6
    return Dataset(x, y, [f"{name}-{i // 4}" for i in range(len(y))], LABELS)


TRAIN, VAL = dataset("a", 16, 0), dataset("b", 8, 1)


def weights(out_dir: Path) -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in load_network(out_dir).state_dict().items()}


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    for k in a:
        np.testing.assert_array_equal(a[k], b[k], err_msg=k)


def test_training_learns_lines_and_reports(tmp_path: Path) -> None:
    report = train(TRAIN, VAL, SPEC, tmp_path, TrainOptions(n_epochs=25, batch=8, n_threads=ONE))
    assert report.accuracy == 1.0, report.curve
    assert report.recall == {"low": 1.0, "high": 1.0, "ambient": 1.0}
    assert np.trace(np.array(report.confusion)) == len(VAL.y)
    assert report.n_groups == {"train": 12, "val": 6}
    assert json.loads((tmp_path / "training.json").read_text())["best_epoch"] == report.best_epoch
    assert spec_of(tmp_path) == SPEC


def test_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(TRAIN, VAL, SPEC, tmp_path / name, dataclasses.replace(QUICK, seed=seed))
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not np.array_equal(weights(tmp_path / "a")["classes.weight"], weights(tmp_path / "c")["classes.weight"])


def test_training_cut_off_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(TRAIN, VAL, SPEC, tmp_path / "whole", QUICK)
    real = training._Trainer.epoch

    def killed(self, train_set, val_set):  # noqa: ANN001, ANN202
        if len(self.curve) == 2:
            raise KeyboardInterrupt
        return real(self, train_set, val_set)

    monkeypatch.setattr(training._Trainer, "epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        train(TRAIN, VAL, SPEC, tmp_path / "cut", QUICK)
    monkeypatch.undo()
    resumed = train(TRAIN, VAL, SPEC, tmp_path / "cut", QUICK)
    assert resumed.curve == whole.curve
    assert_same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_training_stops_early_when_validation_gets_no_better(tmp_path: Path) -> None:
    wrong = dataclasses.replace(VAL, y=np.roll(VAL.y, 8))  # what is learned is wrong there: the loss rises
    report = train(TRAIN, wrong, SPEC, tmp_path, TrainOptions(n_epochs=60, batch=8, patience=3, n_threads=ONE))
    assert report.stopped_early
    assert len(report.curve) == report.best_epoch + 4


def test_group_in_both_sets_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'a-0' and 11 more"):
        train(TRAIN, TRAIN, SPEC, tmp_path, QUICK)


def test_label_without_windows_is_refused_by_name(tmp_path: Path) -> None:
    few = Dataset(TRAIN.features[:16], TRAIN.y[:16], TRAIN.groups[:16], LABELS)
    with pytest.raises(UsageError, match="no training window for high, ambient"):
        train(few, VAL, SPEC, tmp_path, QUICK)


def test_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    train(TRAIN, VAL, SPEC, tmp_path, TrainOptions(n_epochs=1, batch=8, n_threads=ONE))
    with pytest.raises(UsageError, match="holds another training"):
        train(TRAIN, VAL, SPEC, tmp_path, TrainOptions(n_epochs=2, batch=8, n_threads=ONE))


def test_folder_without_a_training_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no finished training \(run.json is missing\)"):
        load_network(tmp_path)
    with pytest.raises(InputError, match="holds no training"):
        spec_of(tmp_path)


def test_damaged_training_says_so(tmp_path: Path) -> None:
    train(TRAIN, VAL, SPEC, tmp_path, TrainOptions(n_epochs=1, batch=8, n_threads=ONE))
    (tmp_path / "network.npz").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(InputError, match="damaged"):
        load_network(tmp_path)


def resume_with(tmp_path: Path, state: bytes) -> None:
    options = TrainOptions(n_epochs=1, batch=8, n_threads=ONE)
    train(TRAIN, VAL, SPEC, tmp_path, options)
    (tmp_path / "state.npz").write_bytes(state)
    train(TRAIN, VAL, SPEC, tmp_path, options)


@pytest.mark.parametrize("state", [b"", b"PK\x03\x04 nonsense", b"\x93NUMPY"])
def test_damaged_state_is_named_in_one_line(tmp_path: Path, state: bytes) -> None:
    with pytest.raises(InputError, match=r"state\.npz: damaged: .*; delete it to begin anew") as e:
        resume_with(tmp_path, state)
    assert "\n" not in str(e.value)


def test_state_of_another_network_is_named_in_one_line(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, curve=np.zeros((1, 3)), counters=np.zeros(2, int))
    with pytest.raises(InputError, match=r"state\.npz: damaged: .*Missing key") as e:
        resume_with(tmp_path, buffer.getvalue())
    assert "\n" not in str(e.value)


def test_state_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.npz.part").mkdir()  # stands where the new state is written
    with pytest.raises(InputError, match="cannot be written: Is a directory; the same command goes on"):
        train(TRAIN, VAL, SPEC, tmp_path, QUICK)


def test_validation_windows_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    features = VAL.features.copy()
    features[0] = np.nan
    with pytest.raises(InputError, match="never a number"):
        train(TRAIN, dataclasses.replace(VAL, features=features), SPEC, tmp_path, QUICK)


def test_embedding_is_the_second_dense_layer() -> None:
    from models.spec_cnn import SpecCnn

    net = SpecCnn(SpecCnnConfig(n_labels=3, n_freq=32, n_time=16)).eval()
    logits, embedding = net.head(net.trunk(torch.rand(2, 1, 32, 16)))
    assert embedding.shape == (2, net.config.n_embedding)
    torch.testing.assert_close(net.classes(embedding), logits)


def test_trunk_keeps_every_row() -> None:
    from models.spec_cnn import SpecCnn

    net = SpecCnn(SpecCnnConfig(n_labels=3)).eval()
    assert net.trunk(torch.rand(1, 1, 256, 64)).shape == (1, 32, 256, 16)
    with pytest.raises(ValueError, match="n_time=60"):
        SpecCnnConfig(n_labels=3, n_time=60)
