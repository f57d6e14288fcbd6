"""What the composition makes of a channel without signal: live a loss, in a file sound with a note."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from calibration.ocean import SCENARIOS, simulate
from daemon.config import ChecksConfig
from daemon.extract import Extractor, Limits
from daemon.frames import Analysed, AudioBlock, Gap, Health, Record, Signature, Skipped, StreamEnd, StreamStart
from daemon.pipeline import Pipeline
from models.bundle import Bundle
from models.engines import open_engine
from models.explainer import Explainer, graphs_of

FS, SECONDS = 4000, 24
SILENT_FROM, SILENT_TO = 9.0, 12.0


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple]:
    bundle = Bundle.load(Bundle.shipped())
    engine, _ = open_engine(bundle, max_batch=8, graphs=graphs_of(bundle))
    yield bundle.spec, Explainer(bundle, engine), Extractor(bundle.spec, Limits.of(bundle.thresholds, "0.95", 3.0, 2))
    engine.close()


@pytest.fixture(scope="module")
def vessel() -> np.ndarray:
    x = simulate(SCENARIOS["standard"], "test", 800, "vessel_0", float(SECONDS), FS).x
    return np.concatenate([x[:1], x[:1] + np.random.default_rng(0).normal(0, 0.01, x[:1].shape).astype(np.float32)])


def run(parts: tuple, x: np.ndarray, *, live: bool, n_block: int = 1000) -> list[Record]:
    pipeline = Pipeline(*parts, checks=ChecksConfig(), live=live)
    blocks = [AudioBlock("s", 0, i, FS, x[:, i : i + n_block]) for i in range(0, x.shape[1], n_block)]
    events = [StreamStart("s", 0, FS, ("fore", "aft")), *blocks, StreamEnd("s", 0, x.shape[1], final=True)]
    return [r for e in events for r in pipeline.process(e)]


def silent(vessel: np.ndarray) -> np.ndarray:
    x = vessel.copy()
    x[1, round(SILENT_FROM * FS) : round(SILENT_TO * FS)] = 0.0
    return x


def test_live_channel_without_signal_is_a_gap_and_no_window_is_made_of_it(parts: tuple, vessel: np.ndarray) -> None:
    records = run(parts, silent(vessel), live=True)
    (gap,) = [r for r in records if isinstance(r, Gap)]
    assert gap.channel == 1
    assert "all samples are 0" in gap.reason
    first, last = gap.first_sample, gap.first_sample + gap.n_missing
    assert (last - first) / FS == pytest.approx(SILENT_TO - SILENT_FROM, abs=0.1)
    for r in records:
        if isinstance(r, Analysed | Signature) and r.window.channel == "aft":
            end = r.window.first_sample + r.window.n_samples
            assert end <= first + 0.3 * FS or r.window.first_sample >= last  # 0.25 s of hold and a tile
    skipped = [r for r in records if isinstance(r, Skipped)]
    assert {r.channel for r in skipped} == {"aft"}
    assert {r.reason for r in skipped} == {"invalid"}
    assert all(0 < r.lost_samples <= last - first for r in skipped)
    per_channel = {c: sum(1 for r in records if isinstance(r, Analysed) and r.window.channel == c) for c in ("fore",)}
    n_slots = per_channel["fore"]
    n_aft = sum(1 for r in records if isinstance(r, Analysed) and r.window.channel == "aft") + len(skipped)
    assert n_aft == n_slots  # one record per slot, whatever happened


def test_silence_in_a_file_is_analysed_and_its_windows_say_dead(parts: tuple, vessel: np.ndarray) -> None:
    records = run(parts, silent(vessel), live=False)
    assert not [r for r in records if isinstance(r, Gap | Skipped)]
    told = [r for r in records if isinstance(r, Health) and r.channel == "aft" and r.quality]
    assert told[0].quality == (("dead", "suspect"),)
    aft = {r.window.first_sample + r.window.n_samples: r.window for r in records if isinstance(r, Analysed)}
    assert {w.quality for w in aft.values()} >= {()}
    marked = [
        (w.first_sample + w.n_samples) / FS
        for w in (r.window for r in records if isinstance(r, Analysed) and r.window.channel == "aft")
        if w.quality == (("dead", "suspect"),)
    ]
    assert marked
    assert min(marked) >= SILENT_FROM + 2


@pytest.mark.parametrize("n_block", [77, 4001, FS * SECONDS])
def test_size_of_the_blocks_changes_neither_quality_nor_skipped_windows(
    parts: tuple, vessel: np.ndarray, n_block: int
) -> None:
    def told(records: list[Record]) -> tuple[list, list, list]:
        windows = [
            (r.window.channel, r.window.grid_index, r.window.quality) for r in records if isinstance(r, Analysed)
        ]
        skipped = [r for r in records if isinstance(r, Skipped)]
        return windows, [r for r in skipped if n_block <= 0.3 * FS], [r for r in records if isinstance(r, Gap | Health)]

    want, got = run(parts, silent(vessel), live=False), run(parts, silent(vessel), live=False, n_block=n_block)
    assert told(got) == told(want)
