"""A trained network as calibration uses it: embeddings, reference Score-CAM, graphs, golden data. Needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from calibration.dataset import WindowSet
from models.engines.onnxruntime import silence_telemetry
from models.export import fold_batch_norm
from models.features import FeatureSpec
from models.graphs import INPUTS, OUTPUTS, build_graphs
from models.score_cam import score_cam
from models.spec_cnn import SpecCnn
from models.student import Student
from models.train import Dataset, load_network
from models.weigher import Weigher, quick_score_cam

__all__ = ["OnnxFiles", "Reference", "TorchGraphs", "student_golden", "to_training_set"]

F32 = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]

BATCH = 32


def to_training_set(windows: WindowSet) -> Dataset:
    """The set as the trainer takes it."""
    return Dataset(windows.features, windows.y, windows.groups, windows.labels)


class Reference:
    """The network of a run folder, in torch."""

    def __init__(self, network: SpecCnn, spec: FeatureSpec) -> None:
        self.network, self.spec = network.eval(), spec

    @classmethod
    def load(cls, run_dir: Path, spec: FeatureSpec) -> Reference:
        """Read the checkpoint that ``models.train`` left."""
        return cls(load_network(run_dir), spec)

    @property
    def n_channels(self) -> int:
        """Maps of the last convolution."""
        return self.network.n_channels

    @torch.no_grad()
    def embeddings(self, features: F32) -> F32:
        """Second dense layer ``(n, n_embedding)``."""
        batches = torch.split(torch.from_numpy(features), BATCH)
        parts = [self.network.head(self.network.trunk(x))[1] for x in batches]
        out: F32 = torch.cat(parts).numpy()
        return out

    def score_cam(self, features: F32, label_index: int, channels: int | None = None) -> F32:
        """Reference maps ``(n, n_freq, n_time)``, by all channels unless told otherwise."""
        x = torch.from_numpy(np.ascontiguousarray(features))
        cls = torch.full((len(x),), label_index, dtype=torch.int64)
        out: F32 = score_cam(self.network, x, cls, fill=self.spec.fill, channels=channels).numpy()
        return out


class TorchGraphs:
    """The static graphs run by torch, for calibration before there are files."""

    def __init__(self, reference: Reference, class_masks: F32, k: int, weigher: Weigher | None = None) -> None:
        self._reference, self._masks, self._k, self._weigher = reference, class_masks, k, weigher
        network, masks = fold_batch_norm(reference.network), torch.from_numpy(class_masks)
        self._graphs = build_graphs(network, masks, k, reference.spec.fill, weigher=weigher)

    @torch.no_grad()
    def run(self, graph: str, tensors: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one graph, see `models.graphs`."""
        inputs = [torch.from_numpy(np.ascontiguousarray(tensors[name])) for name in INPUTS[graph]]
        outputs = self._graphs[graph](*inputs)
        return {name: a.numpy() for name, a in zip(OUTPUTS[graph], outputs, strict=True)}

    def golden(self, features: F32) -> dict[str, tuple[Arrays, Arrays]]:
        """Inputs and reference outputs of each graph for ``features`` ``(n, n_planes, n_freq, n_time)``.

        The maps come from `models.weigher` or `models.score_cam`, not from the graphs they are to prove. ``explain`` is
        asked for the class the network names, and for another in the last window.
        """
        r = self._reference
        with torch.no_grad():
            trunk_t = r.network.trunk(torch.from_numpy(features))
            logits_t, embedding_t = r.network.head(trunk_t)
            probs = torch.softmax(logits_t, 1).numpy()
        named = probs.argmax(axis=1).astype(np.int32)
        asked = named.copy()
        asked[-1] = (named[-1] + 1) % probs.shape[1]
        cam, mix = self._maps(features, named)
        cam_asked, mix_asked = self._maps(features, asked)
        classified: Arrays = {
            "logits": logits_t.numpy(), "probs": probs, "embedding": embedding_t.numpy(), "trunk": trunk_t.numpy(),
        }  # fmt: skip
        fused = {k: v for k, v in classified.items() if k != "trunk"} | {"cls": named, "cam": cam, "mix": mix}
        return {
            "classify": ({"features": features}, classified),
            "explain": (
                {"trunk": classified["trunk"], "features": features, "cls": asked},
                {"cam": cam_asked, "mix": mix_asked},
            ),
            "fused": ({"features": features}, {name: fused[name] for name in OUTPUTS["fused"]}),
        }

    def _maps(self, features: F32, cls: npt.NDArray[np.int32]) -> tuple[F32, F32]:
        r = self._reference
        x, c = torch.from_numpy(np.ascontiguousarray(features)), torch.from_numpy(cls.astype(np.int64))
        if self._weigher is None:
            made = score_cam(r.network, x, c, fill=r.spec.fill, channels=self._k)
        else:
            made = quick_score_cam(r.network, x, c, fill=r.spec.fill, weigher=self._weigher)
        cam: F32 = made.numpy()
        mix: F32 = (0.5 * (cam + self._masks[cls])).astype(np.float32)
        return cam, mix


@torch.no_grad()
def student_golden(student: Student, explain: tuple[Arrays, Arrays]) -> dict[str, tuple[Arrays, Arrays]]:
    """Inputs and reference outputs of the graph ``student``, for the windows and classes of ``explain``'s."""
    inputs = {"features": explain[0]["features"], "cls": explain[0]["cls"]}
    maps = student(torch.from_numpy(inputs["features"]), torch.from_numpy(inputs["cls"])).numpy()
    return {"student": (inputs, {"map": maps})}


class OnnxFiles:
    """Graphs as they stand in ONNX files, run by ONNX Runtime: an `Engine` before there is a bundle to prove it on."""

    name, device, max_batch = "onnxruntime", "CPU", BATCH

    def __init__(self, files: Mapping[str, bytes], precision: str = "f32") -> None:
        silence_telemetry()
        import onnxruntime

        self.precision, self.graphs = precision, tuple(files)

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._sessions = {
            name: onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            for name, file in files.items()
        }

    def close(self) -> None:
        """Nothing to free that is not freed with the object."""

    def run(self, graph: str, tensors: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one graph, see `models.graphs`."""
        outputs = self._sessions[graph].run(list(OUTPUTS[graph]), dict(tensors))
        return dict(zip(OUTPUTS[graph], outputs, strict=True))

    def differences(
        self, graph: str, inputs: Mapping[str, npt.NDArray[Any]], want: Mapping[str, npt.NDArray[Any]]
    ) -> dict[str, float]:
        """Largest absolute difference of each output from ``want``."""
        got = self.run(graph, inputs)
        return {name: float(np.abs(got[name].astype(np.float64) - a).max()) for name, a in want.items()}
