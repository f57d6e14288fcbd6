"""The front end's benchmark compares like with like, and its command tells what it found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calibration.bench import frontend
from calibration.bench.frontend import N_TILES, allocations, ndimage_features, one_shot, sound
from daemon.cli import main
from models.feature_spec import FeatureSpec
from models.normalise import Normaliser
from models.stft import Stft

SPEC = FeatureSpec()


def test_both_sides_see_the_same_frames() -> None:
    fs = 32_000
    x = sound(SPEC, fs, 2)
    t = np.arange(x.shape[1]) / fs
    x += (0.1 * np.sin(2 * np.pi * 100.0 * t) * np.array([[1.0], [0.3]])).astype(np.float32)
    tiles = [p.copy() for _, p in Stft(SPEC, fs, 2).process(x)]
    assert len(tiles) == N_TILES
    ours = np.concatenate(tiles, axis=1)
    shapes = set()
    for way in one_shot(SPEC, fs, x):
        bins = way()
        shapes.add(bins.shape)
        # no window there: the tone of a whole number of periods reads a^2 / 2, as ours does with a Hann window
        power = 2.0 * np.abs(bins[:, :, 50]) ** 2 / SPEC.n_fft**2
        np.testing.assert_allclose(power, ours[:, :, 50], rtol=0.05)  # the noise beside the tone differs
    assert shapes == {(2, N_TILES * SPEC.n_time_step, SPEC.n_fft // 2 + 1)}


def test_ndimage_normalises_as_the_front_end_does() -> None:
    rng = np.random.default_rng(2)
    power = rng.exponential(1e-6, (3, SPEC.n_time_step, SPEC.n_freq)).astype(np.float32)
    power[1, :, 80] *= 300.0
    normalise = Normaliser(SPEC, 3)
    normalise(power)
    reach = 2 * SPEC.tpsw_half
    inside = slice(SPEC.row_lo + reach, SPEC.n_freq - reach)
    got = ndimage_features(SPEC, power)[..., inside]
    np.testing.assert_allclose(got, normalise.features[..., inside], atol=1e-4)
    assert got.std() > 0.1


def test_allocations_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = allocations(SPEC, 4000, 3)
    assert found["block"] < 4096  # a few Python objects, no array of samples (3 x 400 float32)
    assert found["handed_on"] == 3 * (3 * SPEC.n_freq * SPEC.n_time + 1) * 4
    assert found["window"] >= found["handed_on"]
    assert found["kept_per_block"] < 1024

    class Leaky(Stft):
        def process(self, x: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
            self.kept = [*getattr(self, "kept", []), x.copy()]
            yield from super().process(x)

    idle, _, kept = frontend._traced(Leaky(SPEC, 4000, 3), SPEC, 4000)
    assert idle >= 3 * 400 * 4
    assert kept >= 3 * 400 * 4


def test_command_writes_figures_that_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "f.json"
    words = ["--fs", "8000", "--channels", "1", "2", "--seconds-per-cell", "0.01", "--json", str(out)]
    assert main(["bench", "frontend", *words]) == 0
    found = json.loads(out.read_text())
    assert [(r["fs"], r["n_channels"]) for r in found["rows"]] == [(8000, 1), (8000, 2)]
    told = capsys.readouterr().out
    for row, target in zip(found["rows"], found["targets"], strict=True):
        assert target["value"] == row["stages"]["resampling + STFT"]["ratio"] > 0.0
        assert target["met"] == (target["value"] <= 1.5)
    assert told.count("MET") + told.count("MISSED") == 2
    assert told.count("MISSED") == sum(not t["met"] for t in found["targets"])


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--seconds-per-cell", "0"], 64), (["--channels", "0"], 64), (["--fs", "1000"], 65), (["--json", "/no/f"], 66)],
)
def test_bad_words_are_refused(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "frontend", *words]) == code
    assert "tonald: " in capsys.readouterr().err
