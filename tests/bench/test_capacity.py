"""Capacity: the source keeps time and counts what was not fetched, the search finds the edge."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from daemon import capacity
from daemon.capacity import Bank, PacedSource, Probe, probe
from daemon.capacity_search import Cost, cost_of, largest, lower, predicted
from daemon.cli import main
from daemon.compose import Composition
from daemon.config import Config
from daemon.frames import AudioBlock, Gap, StreamEnd, StreamStart
from daemon.publisher import Publisher
from daemon.records import Recorder
from daemon.site_state import Site
from daemon.wire import Identity
from models.bundle import Bundle
from models.engines import open_engine
from models.explainer import graphs_of


def bank(fs: int = 2000, seconds: float = 3.0) -> Bank:
    n = round(fs * seconds)
    ramp = np.arange(n, dtype=np.float32)
    return Bank(fs, np.stack([ramp, ramp + 1e5]), np.stack([-ramp, -ramp - 1e5]))


def test_blocks_follow_one_another_sample_by_sample_around_the_end_of_a_recording() -> None:
    source = PacedSource(bank(), 4, 0.5, 0.5)
    assert isinstance(source.read(1.0), StreamStart)
    blocks = []
    while not isinstance(event := source.read(1.0), StreamEnd):
        assert isinstance(event, AudioBlock)
        blocks.append(event)
    assert [b.first_sample for b in blocks] == [200 * k for k in range(5)]
    assert event.n_samples == 1000
    x = np.concatenate([b.x for b in blocks], axis=1)
    assert source.hears_vessel.tolist() == [False, True, False, True]
    for c, row in enumerate(x):
        steps = np.diff(np.abs(row))
        assert set(np.round(steps).tolist()) <= {1.0, -5999.0}  # a ramp, wrapped at most once
        assert (row >= 0).all() == bool(source.hears_vessel[c])


@pytest.mark.parametrize(("n", "share", "want"), [(8, 0.1, 1), (128, 0.1, 13), (7, 1.0, 7), (5, 0.0, 0)])
def test_share_of_channels_with_a_vessel(n: int, share: float, want: int) -> None:
    assert int(PacedSource(bank(), n, share, 1.0).hears_vessel.sum()) == want


def test_what_is_not_fetched_in_time_is_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "RING_S", 0.3)
    source = PacedSource(bank(), 1, 0.0, 2.0)
    source.read(1.0)
    source.read(1.0)
    time.sleep(0.6)
    gap = source.read(1.0)
    assert isinstance(gap, Gap)
    assert gap.first_sample == 200
    assert gap.n_missing == source.n_lost > 0
    block = source.read(1.0)
    assert isinstance(block, AudioBlock)
    assert block.first_sample == 200 + gap.n_missing
    assert not Probe(1, 0.0, 2.0, n_windows=9, n_lost=source.n_lost).passed


@pytest.mark.parametrize("edge", [0, 8, 40, 96, 128, 136, 248, 256, 1000])
@pytest.mark.parametrize("guess", [1, 16, 64, 130, 400])
def test_search_finds_the_edge_to_a_sixteenth(edge: int, guess: int) -> None:
    asked: list[int] = []

    def passes(n: int) -> bool:
        asked.append(n)
        return n <= edge

    found = largest(passes, guess, 8, 256)
    truth = min(edge - edge % 8, 256)
    assert truth - max(8, truth // 16) < found <= truth
    assert found == 0 or found in asked
    assert len(asked) == len(set(asked)) <= 12
    assert all(n % 8 == 0 and 8 <= n <= 256 for n in asked)


def test_a_good_guess_needs_three_probes() -> None:
    asked: list[int] = []
    assert largest(lambda n: asked.append(n) or n <= 170, 168, 8, 256) == 168
    assert len(asked) <= 3


@pytest.mark.parametrize(("edge", "want", "n_asked"), [(170, 168, 2), (160, 144, 2), (130, 128, 5), (7, 0, 4)])
def test_search_of_few_probes_ends_with_the_best_that_passed(edge: int, want: int, n_asked: int) -> None:
    asked: list[int] = []
    assert largest(lambda n: asked.append(n) or n <= edge, 168, 8, 256, n_probes=2) == want
    assert want == 0 or want in asked
    assert len(asked) == n_asked


@pytest.mark.parametrize(("n", "want"), [(256, 240), (136, 128), (8, 0), (4, 0)])
def test_after_a_failed_confirmation_comes_a_sixteenth_less(n: int, want: int) -> None:
    assert lower(n, 8) == want


def test_prediction_goes_straight_through_two_costs() -> None:
    assert predicted(Cost(8, 0.10, 0.05), Cost(32, 0.34, 0.17), 1.0) == 83  # load 0.01 a channel and 0.02: 0.85
    assert predicted(Cost(8, 0.01, 0.10), Cost(32, 0.02, 0.34), 1.0) == 83  # bursts, as steep
    assert predicted(Cost(8, 0.9, 0.9), Cost(32, 3.6, 3.6), 1.0) == 7


def test_cost_is_measured_by_the_real_stages(tmp_path: Path) -> None:
    loaded = Bundle.load(Bundle.shipped())
    engine, _ = open_engine(loaded, max_batch=8, n_threads=1, graphs=graphs_of(loaded))
    composition = Composition.of(Config(), loaded, engine, Site(None))
    sea = np.random.default_rng(0).normal(0.0, 0.01, (1, 2 * 4000)).astype(np.float32)
    cost = cost_of(composition.pipeline(), Bank(4000, sea, sea), 2, 0.5)
    engine.close()
    assert cost.n_channels == 2
    assert 0.0 < cost.burst_s <= cost.load * 4.0


def test_probe_ends_when_it_cannot_pass_any_more(tmp_path: Path) -> None:
    loaded = Bundle.load(Bundle.shipped())
    engine, _ = open_engine(loaded, max_batch=8, n_threads=1, graphs=graphs_of(loaded))
    composition = Composition.of(Config(), loaded, engine, Site(None))
    sea = np.random.default_rng(0).normal(0.0, 0.01, (1, 40 * 4000)).astype(np.float32)
    source = PacedSource(Bank(4000, sea, sea), 2, 0.5, 60.0)
    pipeline = composition.pipeline()
    began = list(pipeline.process(source.read(0.0)))
    source._start_s -= 9.9  # the first window, complete after 8.4 s, is 1.5 s late, and all that follow
    identity = Identity.new("capacity", loaded.id)
    publisher = Publisher(identity, (f"ipc://{tmp_path}/out",), hwm=100)
    publisher.start()
    recorder = Recorder(identity, composition.spec, loaded.labels)
    for record in began:
        list(recorder.process(record))
    begun = time.monotonic()
    found = probe(pipeline, recorder, publisher, source, 60.0, share=0.5, hop_s=1.0)
    assert time.monotonic() - begun < 40.0  # of 60 s that the sound lasts
    publisher.close(1.0)
    engine.close()
    assert 2 <= found.n_windows < 100
    assert found.p50_ms > 1000.0
    assert not found.passed


@pytest.mark.slow
def test_command_probes_one_number_and_writes_its_figures(tmp_path: Path) -> None:
    import json

    out = tmp_path / "c.json"
    assert main(["bench", "capacity", "--channels", "2", "--probe-seconds", "13", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["channels"] == {"contacts_10": 2, "contacts_100": 2}
    first = found["probes"][0]
    assert first["n_lost"] == 0
    assert first["n_windows"] == 2 * 5  # of 13 s, a window of 8.4 s each second from its end on
    assert found["profile"]["front end"] > 0.0


def test_words_out_of_range_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "capacity", "--probe-seconds", "3"]) != 0
    assert "12 or more" in capsys.readouterr().err
