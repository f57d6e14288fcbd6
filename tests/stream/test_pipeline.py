"""The composition, whole and real: one record per slot, gaps never bridged, blocks of any size, many channels."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.ocean import SCENARIOS, simulate
from daemon.extract import Extractor, Limits
from daemon.frames import Analysed, AudioBlock, Gap, Record, Signature, Skipped, SourceState, StreamEnd, StreamStart
from daemon.pipeline import Pipeline, with_hop
from models.bundle import Bundle
from models.engines import open_engine
from models.errors import ConfigError
from models.explainer import Explainer, graphs_of

FS, N = 4000, 4000 * 14
CHANNELS = ("fore", "aft")


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple]:
    bundle = Bundle.load(Bundle.shipped())
    engine, _ = open_engine(bundle, max_batch=8, graphs=graphs_of(bundle))

    yield bundle.spec, Explainer(bundle, engine), Extractor(bundle.spec, Limits.of(bundle.thresholds, "0.95", 3.0, 2))
    engine.close()


@pytest.fixture(scope="module")
def sea() -> np.ndarray:
    vessel = simulate(SCENARIOS["standard"], "test", 800, "vessel_0", 14.0, FS).x[0]
    ambient = simulate(SCENARIOS["standard"], "test", 801, "ambient", 14.0, FS).x[0]
    return np.stack([vessel, ambient])


def run(parts: tuple, x: np.ndarray, cuts: list[int], gaps: dict[int, int] | None = None) -> list[Record]:
    """Feed ``x`` cut at ``cuts``; ``gaps`` maps a sample to how many are missing from there on."""
    gaps = gaps or {}
    pipeline = Pipeline(*parts)
    events: list = [StreamStart("s", 0, FS, CHANNELS)]
    holes = sorted(gaps.items())
    edges = sorted({0, N, *(c for c in cuts if c < N), *(p for a, n in holes for p in (a, min(N, a + n)))})
    for a, b in itertools.pairwise(edges):
        hole = next(((p, n) for p, n in holes if p <= a < p + n), None)
        if hole is None:
            events.append(AudioBlock("s", 0, a, FS, x[:, a:b]))
        elif hole[0] == a:
            events.append(Gap("s", 0, a, min(N, a + hole[1]) - a, 0, 0, "overflow"))
    events.append(StreamEnd("s", 0, N, final=True))
    return [r for e in events for r in pipeline.process(e)]


def windows(records: list[Record]) -> dict[tuple[str, int], Analysed]:
    return {(r.window.channel, r.window.grid_index): r for r in records if isinstance(r, Analysed)}


def assert_same_window(a: Analysed, b: Analysed) -> None:
    np.testing.assert_array_equal(a.window.features, b.window.features)
    assert a.window.audio_digest == b.window.audio_digest
    assert a.lines == b.lines
    np.testing.assert_allclose(a.verdict.probabilities, b.verdict.probabilities, atol=1e-4)  # may vary with the batch


def test_vessel_and_ambient_are_told_apart(parts: tuple, sea: np.ndarray) -> None:
    records = run(parts, sea, [])
    fore = [r for r in windows(records).values() if r.window.channel == "fore"]
    assert len(fore) == parts[0].n_windows(FS, N) == 6
    assert all(r.verdict.detections[0].label == "vessel_0" for r in fore)
    assert not any(r.verdict.detections for r in windows(records).values() if r.window.channel == "aft")
    assert {s.label for s in records if isinstance(s, Signature) and s.window.channel == "fore"} == {"vessel_0"}


@pytest.mark.parametrize("size", [480, 1000, 7919])
def test_size_of_the_blocks_changes_no_record(parts: tuple, sea: np.ndarray, size: int) -> None:
    whole, cut = windows(run(parts, sea, [])), windows(run(parts, sea, list(range(size, N, size))))
    assert whole.keys() == cut.keys()
    for key, record in whole.items():
        assert_same_window(record, cut[key])


@settings(max_examples=12, deadline=None)
@given(
    cuts=st.lists(st.integers(1, N - 1), max_size=6),
    gaps=st.dictionaries(st.integers(0, N - 1), st.integers(0, 3 * FS), max_size=2),
    bad=st.lists(st.tuples(st.integers(0, 1), st.integers(0, N - 1)), max_size=2),
)
def test_every_slot_gives_one_record_and_no_gap_is_bridged(
    parts: tuple, sea: np.ndarray, cuts: list[int], gaps: dict[int, int], bad: list[tuple[int, int]]
) -> None:
    spec = parts[0]
    gaps = {a: n for i, (a, n) in enumerate(sorted(gaps.items())) if i == 0 or a > min(gaps) + gaps[min(gaps)]}
    x = sea.copy()
    for c, i in bad:
        x[c, i] = np.nan
    records = run(parts, x, cuts, gaps)
    slots = [r for r in records if isinstance(r, Analysed | Skipped)]
    keys = [
        (r.window.channel, r.window.grid_index) if isinstance(r, Analysed) else (r.channel, r.grid_index) for r in slots
    ]
    expected = {(c, g) for g in range(spec.n_windows(FS, N)) for c in CHANNELS}
    assert len(keys) == len(set(keys))
    assert set(keys) == expected
    reference = windows(run(parts, sea, []))
    step, length = spec.step(FS), spec.n_samples(FS)
    for (channel, g), record in zip(keys, slots, strict=True):
        first, end = g * step, g * step + length
        missing = any(n and a < end and a + n > first for a, n in gaps.items())
        lost = {i for c, i in bad if CHANNELS[c] == channel and not any(a <= i < a + n for a, n in gaps.items())}
        invalid = any(first <= i < end for i in lost)
        assert isinstance(record, Skipped) == (missing or invalid), (channel, g, gaps, bad)
        if isinstance(record, Skipped):
            assert record.reason in ("gap", "invalid")
        else:
            assert_same_window(record, reference[channel, g])
    assert isinstance(records[-1], StreamEnd)


def test_gap_of_many_windows_gives_a_record_for_each(parts: tuple, sea: np.ndarray) -> None:
    pipeline = Pipeline(*parts)
    start = StreamStart("s", 0, FS, ("fore",))
    hours = 2 * 3600 * FS
    events = [start, AudioBlock("s", 0, 0, FS, sea[:1]), Gap("s", 0, N, hours, 0, 0, "overflow")]
    records = [r for e in events for r in pipeline.process(e)]
    skipped = [r for r in records if isinstance(r, Skipped)]
    assert len(skipped) + len(windows(records)) == parts[0].n_windows(FS, N + hours)
    assert all(r.reason == "gap" for r in skipped)


def test_gap_between_epochs_is_told_although_no_stream_runs(parts: tuple) -> None:
    gap = Gap("s", 0, 100, None, 10**9, 10**6, "lost")
    assert list(Pipeline(*parts).process(gap)) == [gap]


def test_stream_that_cannot_be_used_is_refused_and_said_so(parts: tuple) -> None:
    pipeline = Pipeline(*parts)
    start = StreamStart("s", 0, 1000, ("fore",), label="slow.wav")
    records = list(pipeline.process(start))
    assert records[0] is start
    assert isinstance(records[1], SourceState)
    assert records[1].detail.startswith("slow.wav: sampled at 1000 Hz")
    assert list(pipeline.process(AudioBlock("s", 0, 0, 1000, np.zeros((1, 10), np.float32)))) == []


def test_stream_too_short_for_a_window_says_so(parts: tuple, sea: np.ndarray) -> None:
    pipeline = Pipeline(*parts)
    events = [StreamStart("s", 0, FS, CHANNELS), AudioBlock("s", 0, 0, FS, sea[:, :FS]), StreamEnd("s", 0, FS)]
    records = [r for e in events for r in pipeline.process(e)]
    assert records[-1].problem == "too short: 1.0 s, one window needs 8.4 s"


@pytest.mark.parametrize("hop_s", [0.125, 0.5, 2.0, 8.0])
def test_hop_that_divides_the_window_is_taken(parts: tuple, hop_s: float) -> None:
    assert with_hop(parts[0], hop_s).step_s == hop_s


@pytest.mark.parametrize("hop_s", [0.1, 3.0, 16.0])
def test_hop_that_does_not_is_refused_with_those_that_do(parts: tuple, hop_s: float) -> None:
    with pytest.raises(ConfigError, match=rf"hop_s = {hop_s}: this bundle allows 0.125, 0.25, 0.5, 1, 2, 4, 8 s"):
        with_hop(parts[0], hop_s)
