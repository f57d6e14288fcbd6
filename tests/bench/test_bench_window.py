"""The benchmark is honest before it is fast: same network, same maps, figures that follow from the times."""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from calibration.bench import contestants, rounds
from calibration.bench.checks import LIMIT, check, rank_correlation, true_to_all
from calibration.bench.peers import PEERS
from calibration.bench.window import BATCHES, windows_for_bench
from calibration.precision import tolerances
from calibration.reference import Reference, TorchGraphs
from daemon.cli import main
from models.bundle import Bundle, Representatives, Thresholds, write_bundle
from models.errors import BundleError, EngineError
from models.export import export_graphs
from models.features import FeatureSpec
from models.graphs import OUTPUTS, build_graphs
from models.import_onnx import spec_cnn_from_onnx
from models.spec_cnn import SpecCnn, SpecCnnConfig
from tests.toy_bundle import graph_bytes

SPEC = FeatureSpec(n_freq=32, n_time=16)
LABELS = ("a", "b", "ambient")
K, FILL = 4, SPEC.fill


@pytest.fixture(scope="module")
def network() -> SpecCnn:
    """Random, with batch statistics that folding has to get right."""
    torch.manual_seed(5)
    config = SpecCnnConfig(n_labels=len(LABELS), n_freq=SPEC.n_freq, n_time=SPEC.n_time, channels=(4, 8, 8))
    network = SpecCnn(config)
    with torch.no_grad():
        for m in network.features:
            if isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(0.5, 1.5)
                m.bias.uniform_(-0.3, 0.3)
                m.running_mean.uniform_(-0.2, 0.2)
                m.running_var.uniform_(0.2, 2.0)
    return network.eval()


@pytest.fixture(scope="module")
def bundle(network: SpecCnn, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    rng = np.random.default_rng(5)
    # as the graphs keep them, in half precision: what differs then is arithmetic
    masks = rng.random((len(LABELS), *SPEC.shape[1:])).astype(np.float16).astype(np.float32)
    files = export_graphs(network, torch.from_numpy(masks), SPEC, K)
    features = rng.random((3, *SPEC.shape)).astype(np.float32)
    golden = TorchGraphs(Reference(network, SPEC), masks, K).golden(features)
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "random",
        labels=LABELS, spec=SPEC, k=K, graphs=files, class_masks=masks,
        representatives=Representatives(("a/0",), np.zeros(1, np.int32), golden["classify"][1]["embedding"][:1]),
        thresholds=Thresholds(
            {label: {"0.95": 0.5} for label in LABELS[:2]}, "0.95", dict.fromkeys(LABELS, 1e6), {"a": 0.0, "b": 0.0}
        ),
        golden=golden, tolerances=tolerances(files, golden), training={"weights": "random"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return windows_for_bench(SPEC, 6)


def rebuilt(bundle: Bundle) -> SpecCnn:
    return spec_cnn_from_onnx(bundle.graph_bytes("classify", "f32"))


def test_rebuilt_network_answers_as_the_trained_one(bundle: Bundle, network: SpecCnn, x: np.ndarray) -> None:
    again = rebuilt(bundle)
    with torch.no_grad():
        t = torch.from_numpy(x)
        want, got = network(t), again(t)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in again.modules())
    assert want.std() > 0.01  # the windows tell the labels apart, so that equal logits say something
    assert (want - got).abs().max() < 1e-5  # folding multiplies weights of order 1 in float32


@pytest.mark.parametrize("graph", ["classify", "explain"])
def test_rebuilding_another_network_is_refused(graph: str) -> None:
    with pytest.raises(BundleError, match="is no Spec-CNN"):
        spec_cnn_from_onnx(graph_bytes(graph))


def test_windows_are_different_simulated_ones_of_test_seeds(x: np.ndarray) -> None:
    assert x.shape == (6, *SPEC.shape)
    assert x.dtype == np.float32
    assert 0.0 <= x.min() < x.max() <= 1.0
    assert len({w.tobytes() for w in x}) == len(x)


def test_engines_equal_the_rebuilt_network(bundle: Bundle, x: np.ndarray) -> None:
    engines, _ = contestants.engines(bundle, len(x), 1)
    found = check(rebuilt(bundle), x, FILL, engines, [])
    full = [f for f in found if f["precision"] == "f32"]
    assert {f["contestant"] for f in full} == {"tonald, openvino", "tonald, onnxruntime"}
    assert max(max(f["cam_max_abs"], f["logits_max_abs"]) for f in full) <= LIMIT
    assert all(0.0 <= f["iou"] <= 1.0 and -1.0 <= f["rank_correlation_full"] <= 1.0 for f in full)


def test_another_network_is_not_compared(bundle: Bundle, x: np.ndarray) -> None:
    other = rebuilt(bundle)
    other.classes.bias.data[0] += 2 * LIMIT
    engines, _ = contestants.engines(bundle, len(x), 1)
    with pytest.raises(EngineError, match="logits_max_abs"):
        check(other, x, FILL, engines, [])


def test_all_ways_of_a_contestant_give_the_same_maps(bundle: Bundle, x: np.ndarray) -> None:
    network = rebuilt(bundle)
    engines, _ = contestants.engines(bundle, len(x), 1)
    peers, _ = contestants.peers(network)
    for c in [*(e for e in engines if e.precision == "f32"), *contestants.references(network, K, FILL, None), *peers]:
        ways = [*c.ways(len(x)), contestants.in_pieces(c.ways(1)[0], 1)]
        want = ways[0].run(x).copy()
        assert len(want) == len(x)
        for way in ways[1:]:
            # the order of float32 sums depends on the batch
            np.testing.assert_allclose(way.run(x), want, atol=1e-4, err_msg=f"{c.name}: {way.name}")


@pytest.mark.parametrize("name", PEERS)
def test_peer_explains_the_same_network(name: str, bundle: Bundle, x: np.ndarray) -> None:
    network = rebuilt(bundle)
    peers, notes = contestants.peers(network)
    peer = [p for p in peers if p.name.startswith(name)]
    if not peer:
        pytest.skip(next(n for n in notes if n.startswith(name)))
    (found,) = check(network, x, FILL, [], peer)
    # the libraries enlarge the maps before or after scaling, and with other corners: not equal, but nearly
    assert found["rank_correlation_own_form"] > 0.95


def test_peers_leave_nothing_behind(bundle: Bundle) -> None:
    peers, notes = contestants.peers(rebuilt(bundle))
    if len(peers) < len(PEERS):
        pytest.skip("; ".join(notes))
    if importlib.util.find_spec("torchvision") is None:
        assert not [m for m in sys.modules if m.split(".")[0] == "torchvision"]
    tqdm = importlib.import_module("tqdm").tqdm
    before = tqdm.__init__
    peers[0].ways(1)[0].run(windows_for_bench(SPEC, 1))
    assert tqdm.__init__ is before


def test_bench_window_writes_figures_that_agree(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")
    rng = np.random.default_rng(0)
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, 0.1 * rng.standard_normal(6 * SPEC.fs_model), SPEC.fs_model)
    words = ["bench", "window", "--bundle", str(bundle.path), "--seconds-per-cell", "0.01", "--json", str(file)]
    assert main([*words, "--data", str(tmp_path)]) == 0
    result = json.loads(file.read_text())
    out = capsys.readouterr().out
    assert result["k"] == K
    assert result["fidelity"]["recorded"]["n_windows"] == 2
    assert 0.0 <= result["fidelity"]["simulated"]["iou"] <= 1.0
    for n in BATCHES:
        by_hand = {r["contestant"]: r["ms_per_window"] for r in result["rows"] if r["batch"] == n}
        ratio = by_hand["torch reference, all"] / by_hand[f"torch reference, top {K}"]
        assert result["factors"][f"batch_{n}"]["channels, all to k"] == pytest.approx(ratio)
    assert result["cpu"] in out
    for n in BATCHES:
        rows = [r for r in result["rows"] if r["batch"] == n]
        assert {r["side"] for r in rows} >= {"tonald", "reference"}
        assert all(r["ms_per_window"] > 0 and r["contestant"] in out for r in rows)
        peers = [r for r in rows if r["side"] == "peer"]
        ours = [r for r in rows if r["side"] == "tonald" and r["precision"] == "f32"]
        best = min(ours, key=lambda r: r["ms_per_window"])
        assert result["speedup"][f"batch_{n}"] == best["ratio"]
        if peers:
            assert min(peers, key=lambda r: r["ms_per_window"])["ratio"] == 1.0


def test_bench_window_without_peers_says_so_and_goes_on(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torchcam", "torchcam.methods", "pytorch_grad_cam"):
        monkeypatch.setitem(sys.modules, module, None)
    file = tmp_path / "bench.json"
    words = ["bench", "window", "--bundle", str(bundle.path), "--seconds-per-cell", "0.01", "--json", str(file)]
    assert main(words) == 0
    result = json.loads(file.read_text())
    assert result["speedup"] == {"batch_1": None, "batch_32": None}
    out = capsys.readouterr().out
    for name in PEERS:
        assert f"note: {name} is not measured" in out


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--seconds-per-cell", "0"], 64), (["--seconds-per-cell", "nan"], 64), (["--json", "/no/such/folder/f"], 66),
     (["--bundle", "/no/such/bundle"], 79)],
)  # fmt: skip
def test_bench_window_refuses_bad_words_in_one_line(
    words: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "window", *words]) == code
    err = capsys.readouterr().err
    assert err.startswith("tonald: ")
    assert err.count("\n") == 1


class Clock:
    """Time that passes only where a call says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.factor = 0.0, 1.0
        monkeypatch.setattr(rounds, "time", types.SimpleNamespace(perf_counter=lambda: self.now))

    def call(self, seconds: float) -> rounds.Call:
        def spend() -> None:
            self.now += seconds * self.factor

        return spend


@pytest.mark.parametrize("k", [1, 8])
def test_maps_of_all_channels_are_true_to_themselves(bundle: Bundle, network: SpecCnn, x: np.ndarray, k: int) -> None:
    graphs = build_graphs(network, torch.from_numpy(np.array(bundle.class_masks)), k, FILL)

    class Engine:
        max_batch = 4

        def run(self, graph: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            with torch.no_grad():
                out = graphs[graph](*(torch.from_numpy(t) for t in tensors.values()))
            return dict(zip(OUTPUTS[graph], (t.numpy() for t in out), strict=True))

    told = true_to_all(network, types.SimpleNamespace(engine=Engine()), x, FILL)  # type: ignore[arg-type]
    assert told["n_windows"] == len(x)
    assert (told["iou"] > 0.98 and told["rank_correlation"] > 0.9999) == (k == network.n_channels)


def test_timed_pairs_what_slows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def told(done: int, _total: int) -> None:
        clock.factor = 1.0 + done // 2 % 5  # each round of two turns runs at another speed

    times = rounds.timed([clock.call(0.01), clock.call(0.06)], 0.6, told=told)
    assert times.shape == (10, 2)
    assert np.ptp(times[:, 0]) > 0.01
    assert rounds.ratio(times[:, 1], times[:, 0]) == pytest.approx(6.0)


def test_fastest_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert rounds.fastest([clock.call(s) for s in (0.5, 0.21, 0.2, 3.0)]) == 2
    assert rounds.fastest([clock.call(1.0)]) == 0


def test_rank_correlation_sees_order_only() -> None:
    a = np.random.default_rng(0).random((4, 8, 8)).astype(np.float32)
    assert rank_correlation(a, a**3) == pytest.approx(1.0)
    assert rank_correlation(a, -a) == pytest.approx(-1.0)
    assert rank_correlation(a, np.zeros_like(a)) is None
