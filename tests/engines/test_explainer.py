from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from models.bundle import Bundle, Thresholds
from models.engines import Engine, open_engine
from models.explainer import Detection, Explainer, nearest
from tests.toy_bundle import LABELS, SPEC, class_masks, make_bundle, window


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "toy")


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Iterator[Engine]:
    engine, _ = open_engine(bundle, "onnxruntime", max_batch=4, n_threads=1)
    yield engine
    engine.close()


LOW, HIGH, QUIET = window(low=0.7), window(high=0.5, seed=1), window(seed=2)
STRANGE = window(low=0.7, high=0.6, seed=3)


class Counting:
    """An engine that notes what it was asked."""

    def __init__(self, engine: Engine) -> None:
        self.inner, self.calls = engine, list[tuple[str, int]]()
        self.name, self.precision, self.device = engine.name, engine.precision, engine.device
        self.max_batch, self.graphs = engine.max_batch, engine.graphs

    def run(self, graph: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls.append((graph, len(tensors["features"])))
        return self.inner.run(graph, tensors)

    def close(self) -> None:
        pass


def test_explain_names_class_ambient_and_unknown(bundle: Bundle, engine: Engine) -> None:
    low, high, quiet, strange = Explainer(bundle, engine).explain([LOW, HIGH, QUIET, STRANGE])
    assert [v.detections[0].label for v in (low, high)] == ["low", "high"]
    assert isinstance(low.detections[0], Detection)
    assert low.detections[0].probability == pytest.approx(float(low.probabilities[0]))
    assert [(v.is_ambient, v.unknown) for v in (low, high, quiet, strange)] == [
        (False, False), (False, False), (True, False), (False, True)
    ]  # fmt: skip
    assert (low.nearest, high.nearest, quiet.nearest) == ("low/0", "high/0", "ambient/0")
    assert not quiet.detections
    assert not strange.detections
    assert strange.distance > bundle.thresholds.unknown_distance["low"]


def test_explain_runs_the_costly_graph_on_detections_only(bundle: Bundle, engine: Engine) -> None:
    counting = Counting(engine)
    verdicts = Explainer(bundle, counting).explain([QUIET, LOW, STRANGE, HIGH])
    assert counting.calls == [("classify", 4), ("explain", 2)]
    assert [v.cam is None and v.mix is None for v in verdicts] == [True, False, True, False]
    counting.calls.clear()
    Explainer(bundle, counting).explain([QUIET, STRANGE])
    assert counting.calls == [("classify", 2)]


def test_explain_maps_belong_to_their_window(bundle: Bundle, engine: Engine) -> None:
    explainer = Explainer(bundle, engine)
    together = explainer.explain([QUIET, LOW, STRANGE, HIGH])
    for x, verdict, label in ((LOW, together[1], 0), (HIGH, together[3], 1)):
        cam, mix = explainer.explain_all(x[None], label)
        assert verdict.cam is not None
        assert verdict.mix is not None
        assert np.allclose(verdict.cam, cam[0], atol=1e-6)  # float32 sums in batches of 2 and of 1
        assert np.allclose(verdict.mix, (cam[0] + class_masks()[label]) / 2, atol=1e-6)
        assert np.allclose(mix[0], verdict.mix, atol=1e-6)


def test_explain_more_windows_than_max_batch_equals_one_by_one(bundle: Bundle, engine: Engine) -> None:
    x = np.stack([window(low=0.1 * (i % 8), high=0.1 * (i % 3), seed=i) for i in range(11)])
    explainer = Explainer(bundle, engine)
    many, single = explainer.explain(x), [explainer.explain(w[None])[0] for w in x]
    assert len({(v.is_ambient, v.unknown) for v in many}) == 3
    for a, b in zip(many, single, strict=True):
        assert (a.is_ambient, a.unknown, a.nearest) == (b.is_ambient, b.unknown, b.nearest)
        assert [d.label for d in a.detections] == [d.label for d in b.detections]
        assert a.distance == pytest.approx(b.distance, abs=1e-5)


def test_explain_results_survive_the_next_call_and_are_read_only(bundle: Bundle) -> None:
    engine, _ = open_engine(bundle, "openvino", max_batch=4, n_threads=1)  # hands out views of its buffers
    explainer = Explainer(bundle, engine)
    first = explainer.explain([LOW])[0]
    assert first.cam is not None
    kept_cam, kept_probs = first.cam.copy(), first.probabilities.copy()
    explainer.explain([HIGH])
    assert np.array_equal(first.cam, kept_cam)
    assert np.array_equal(first.probabilities, kept_probs)
    assert not first.cam.flags.writeable
    assert not first.probabilities.flags.writeable


def test_explain_no_windows_gives_none(bundle: Bundle, engine: Engine) -> None:
    assert Explainer(bundle, engine).explain([]) == []


def test_explain_improbable_label_is_unknown(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> None:
    strict = Thresholds(
        mix=bundle.thresholds.mix,
        nominal="0.95",
        unknown_distance=dict.fromkeys(LABELS, 100.0),
        min_probability={"low": 1.5, "high": 0.0},
    )
    other = make_bundle(tmp_path_factory.mktemp("strict") / "toy", thresholds=strict)
    engine, _ = open_engine(other, "onnxruntime", max_batch=4, n_threads=1)
    low, high = Explainer(other, engine).explain([LOW, HIGH])
    assert low.unknown
    assert not low.detections
    assert [d.label for d in high.detections] == ["high"]


def test_explain_far_ambient_is_unknown_only_where_calibrated(
    tmp_path_factory: pytest.TempPathFactory, bundle: Bundle
) -> None:
    t = bundle.thresholds
    for distances, unknown in (({"low": 0.3, "high": 0.3, "ambient": 1e-9}, True), ({"low": 0.3, "high": 0.3}, False)):
        limits = Thresholds(t.mix, t.nominal, distances, t.min_probability)
        other = make_bundle(tmp_path_factory.mktemp("far") / "toy", thresholds=limits)
        engine, _ = open_engine(other, "onnxruntime", max_batch=4, n_threads=1)
        faint = Explainer(other, engine).explain([window(low=0.12, seed=9)])[0]
        assert (faint.unknown, faint.is_ambient) == (unknown, not unknown)


def test_explain_all_each_window_for_its_own_class(bundle: Bundle, engine: Engine) -> None:
    x = np.stack([LOW, LOW, QUIET, HIGH, LOW, QUIET])
    cls = np.array([0, 1, 0, 1, 0, 1])
    cam, mix = Explainer(bundle, engine).explain_all(x, cls)
    assert cam.shape == mix.shape == (6, *SPEC.shape[1:])
    assert np.allclose(mix, (cam + class_masks()[cls]) / 2, atol=1e-6)


@pytest.mark.parametrize(("cls", "message"), [(3, "cls=3..3"), (-1, "cls=-1..-1")])
def test_explain_all_class_that_does_not_exist_is_named(bundle: Bundle, engine: Engine, cls: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Explainer(bundle, engine).explain_all([LOW], cls)


def test_explain_wrong_shape_is_named(bundle: Bundle, engine: Engine) -> None:
    with pytest.raises(ValueError, match=r"windows of shape \(1, 32, 15\)"):
        Explainer(bundle, engine).explain([LOW[..., :-1]])


def test_nearest_keeps_digits_and_ignores_the_batch() -> None:
    rng = np.random.default_rng(5)
    known = (1000.0 + rng.normal(size=(40, 64))).astype(np.float32)
    x = (known[rng.integers(40, size=25)] + rng.normal(0, 1e-3, (25, 64))).astype(np.float32)
    index, distance = nearest(x, known)
    exact = np.sqrt(((x[:, None].astype(np.float64) - known[None].astype(np.float64)) ** 2).sum(axis=2))
    assert np.array_equal(index, exact.argmin(axis=1))
    assert np.allclose(distance, exact.min(axis=1), rtol=1e-12)  # 64 float64 sums in another order
    alone = [nearest(w[None], known)[1][0] for w in x]
    assert np.array_equal(distance, alone)
