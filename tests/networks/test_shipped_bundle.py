"""The shipped bundle's graphs against the torch reference, on simulated and on real windows."""

from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.fidelity import fidelity
from calibration.ocean import SCENARIOS, simulate
from models.bundle import Bundle
from models.engines import open_engine
from models.features import windows_of
from models.graphs import build_graphs
from models.import_onnx import spec_cnn_from_onnx
from models.score_cam import score_cam
from models.weigher import Weigher, quick_score_cam

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(Bundle.shipped())


def simulated(bundle: Bundle) -> np.ndarray:
    scenario = SCENARIOS["standard"]
    parts = []
    for i, label in enumerate((*scenario.labels, "ambient")):
        sim = simulate(scenario, "test", 700 + i, label, 10.0)
        parts.append(next(windows_of(bundle.spec, sim.fs, sim.x)).features[0])
    return np.stack(parts)


def weigher(bundle: Bundle) -> Weigher:
    return Weigher.load(bundle.path / "report" / "weigher.npz")


def real(bundle: Bundle) -> np.ndarray:
    soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")
    files = sorted(DATA.glob("vessel_*/*.flac"))[::6]
    if not files:
        pytest.skip("the real recordings (../shared/data) are not at hand")
    parts = []
    for path in files:
        x, fs = soundfile.read(path, dtype="float32", always_2d=True)
        parts.append(next(windows_of(bundle.spec, fs, np.ascontiguousarray(x.T))).features[0])
    return np.stack(parts)


@pytest.mark.parametrize("windows", [simulated, real])
@pytest.mark.parametrize("engine_name", ["openvino", "onnxruntime"])
def test_fused_graph_equals_the_readable_reference(bundle: Bundle, windows, engine_name: str) -> None:  # noqa: ANN001
    x = windows(bundle)
    network = spec_cnn_from_onnx(bundle.graph_bytes("classify", "f32"))
    engine, _ = open_engine(bundle, engine_name, max_batch=len(x))
    try:
        out = {k: np.array(v) for k, v in engine.run("fused", {"features": x}).items()}
    finally:
        engine.close()
    t = torch.from_numpy(x)
    cls = torch.from_numpy(out["cls"]).long()
    cam = quick_score_cam(network, t, cls, fill=bundle.spec.fill, weigher=weigher(bundle)).numpy()
    np.testing.assert_allclose(out["cam"], cam, atol=1e-4)
    # class masks are kept in float16 inside the graph: 2.5e-4 of a value below 1, halved by the mix
    np.testing.assert_allclose(out["mix"], (cam + bundle.class_masks[out["cls"]]) / 2, atol=2.5e-4)


@pytest.mark.parametrize(("windows", "least"), [(simulated, (0.85, 0.98)), (real, (0.8, 0.97))])
def test_quick_maps_are_true_to_score_cam_by_all_channels(bundle: Bundle, windows, least) -> None:  # noqa: ANN001
    """Means over few windows; calibration asks for 0.92 and 0.99 of its own."""
    x = torch.from_numpy(windows(bundle))
    network = spec_cnn_from_onnx(bundle.graph_bytes("classify", "f32"))
    with torch.no_grad():
        cls = network(x)[:, :-1].argmax(1)  # the likeliest vessel, as ambient is never explained
    full = score_cam(network, x, cls, fill=bundle.spec.fill).numpy()
    quick = quick_score_cam(network, x, cls, fill=bundle.spec.fill, weigher=weigher(bundle)).numpy()
    iou, rank = fidelity(full, quick)
    assert iou >= least[0]
    assert rank >= least[1]


@pytest.mark.parametrize("windows", [simulated, real])
def test_graph_with_all_channels_equals_the_full_reference(bundle: Bundle, windows) -> None:  # noqa: ANN001
    x = torch.from_numpy(windows(bundle))
    network = spec_cnn_from_onnx(bundle.graph_bytes("classify", "f32"))
    masks = torch.from_numpy(np.array(bundle.class_masks))
    fused = build_graphs(network, masks, network.n_channels, bundle.spec.fill)["fused"]
    with torch.no_grad():
        *_, cls, cam, _mix = fused(x)
    np.testing.assert_allclose(cam, score_cam(network, x, cls.long(), fill=bundle.spec.fill), atol=1e-4)
