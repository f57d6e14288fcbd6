"""The real graphs, of a network with random weights and the real size, through both CPU engines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.bundle import Bundle, Representatives, Thresholds, write_bundle
from models.engines import open_engine
from models.explainer import Explainer
from models.export import export_graphs
from models.features import FeatureSpec
from models.score_cam import score_cam
from models.spec_cnn import SpecCnn, SpecCnnConfig

LABELS = ("a", "b", "ambient")
SPEC = FeatureSpec()
K = 8
N = 3
#: What the design promises of float32: cam within 1e-4 of the torch reference.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def reference() -> tuple[SpecCnn, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    network = SpecCnn(SpecCnnConfig(n_labels=len(LABELS))).eval()
    # the graphs keep the masks in half precision: round them first, so that what is left is the arithmetic
    masks = torch.rand(len(LABELS), *SPEC.shape[1:]).half().float()
    x = torch.rand(N, *SPEC.shape)
    return network, masks, x, torch.tensor([0, 1, 0])


@pytest.fixture(scope="module")
def bundle(
    reference: tuple[SpecCnn, torch.Tensor, torch.Tensor, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    network, masks, x, cls = reference
    graphs = export_graphs(network, masks, SPEC, K, precisions=("f32",))
    with torch.no_grad():
        trunk = network.trunk(x)
        logits, embedding = network.head(trunk)
        probs = logits.softmax(1)
        best = probs.argmax(1)

        def maps(cls: torch.Tensor) -> dict[str, np.ndarray]:
            cam = score_cam(network, x, cls, fill=SPEC.fill, channels=K)
            return {"cam": cam.numpy(), "mix": ((cam + masks[cls]) / 2).numpy()}

        heads = {"logits": logits.numpy(), "probs": probs.numpy(), "embedding": embedding.numpy()}
        golden = {
            "classify": ({"features": x.numpy()}, heads | {"trunk": trunk.numpy()}),
            "explain": (
                {"trunk": trunk.numpy(), "features": x.numpy(), "cls": cls.numpy().astype(np.int32)}, maps(cls)
            ),
            "fused": ({"features": x.numpy()}, heads | {"cls": best.numpy().astype(np.int32)} | maps(best)),
        }  # fmt: skip
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "random",
        labels=LABELS,
        spec=SPEC,
        k=K,
        graphs=graphs,
        class_masks=masks.numpy(),
        representatives=Representatives(("a/0",), np.zeros(1, np.int32), embedding.numpy()[:1]),
        thresholds=Thresholds(
            {label: {"0.95": 0.5} for label in LABELS[:2]}, "0.95", dict.fromkeys(LABELS, 1e6), {"a": 0.0, "b": 0.0}
        ),
        golden=golden,
        tolerances={(g, "f32"): dict.fromkeys(golden[g][1], TOLERANCE) for g in golden},
        training={"weights": "random"},
    )


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_engine_reproduces_the_torch_reference(bundle: Bundle, name: str) -> None:
    engine, report = open_engine(bundle, name, max_batch=2, n_threads=1)
    engine.close()
    assert set(report.golden_max_abs) == {"classify", "explain", "fused"}
    assert max(d for by in report.golden_max_abs.values() for d in by.values()) <= TOLERANCE


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_explain_all_equals_score_cam(
    bundle: Bundle, reference: tuple[SpecCnn, torch.Tensor, torch.Tensor, torch.Tensor], name: str
) -> None:
    network, masks, x, _ = reference
    engine, _ = open_engine(bundle, name, max_batch=2, n_threads=1, graphs=("classify", "explain"))
    explainer = Explainer(bundle, engine)
    for cls in range(len(LABELS)):
        cam, mix = explainer.explain_all(x.numpy(), cls)
        with torch.no_grad():
            want = score_cam(network, x, torch.full((N,), cls), fill=SPEC.fill, channels=K)
        assert np.abs(cam - want.numpy()).max() <= TOLERANCE
        assert np.abs(mix - ((want + masks[cls]) / 2).numpy()).max() <= TOLERANCE
    engine.close()
