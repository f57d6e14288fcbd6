"""From a bundle's ``classify`` file back to a Spec-CNN in torch, for comparison with what else runs torch networks.

The export folds batch normalisation into the convolutions, so the network that comes back has none: see
`models.export.fold_batch_norm`. The weights are taken in the order of the operators, not by name: names belong to the
exporter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from models.errors import BundleError
from models.export import fold_batch_norm
from models.spec_cnn import SpecCnn, SpecCnnConfig

__all__ = ["spec_cnn_from_onnx"]

#: Operators of the exported ``classify`` graph that hold no weights.
PLAIN = {"Relu", "MaxPool", "ReduceMean", "Reshape", "Flatten", "Softmax"}


def spec_cnn_from_onnx(file: bytes) -> SpecCnn:
    """The network of a ``classify`` graph in ``f32``: evaluation mode, batch normalisation folded, no gradients.

    That it answers as the file does is for the caller to see: compare the logits of some windows.

    Parameters
    ----------
    file
        What `models.export.export_graphs` made.

    Raises
    ------
    BundleError
        If the operators or shapes are not those of a Spec-CNN.
    """
    graph = onnx.load_from_string(file).graph
    layers = _weighted_layers(graph)
    kinds = [kind for kind, _, _ in layers]
    if len(layers) < 5 or kinds != ["Conv"] * (len(layers) - 3) + ["Gemm"] * 3:
        raise BundleError(f"graph 'classify' is no Spec-CNN: its layers with weights are {', '.join(kinds) or 'none'}")
    convolutions, reduce, (hidden, embedding, classes) = layers[:-4], layers[-4], layers[-3:]
    try:
        n_planes, n_freq, n_time = (d.dim_value for d in graph.input[0].type.tensor_type.shape.dim[1:])
        config = SpecCnnConfig(
            n_labels=classes[1].shape[0],
            n_planes=n_planes,
            n_freq=n_freq,
            n_time=n_time,
            channels=tuple(weight.shape[0] for _, weight, _ in convolutions),
            n_reduced=reduce[1].shape[0],
            n_hidden=hidden[1].shape[0],
            n_embedding=embedding[1].shape[0],
        )
        network = fold_batch_norm(SpecCnn(config))
        inner = [m for m in network.features if isinstance(m, nn.Conv2d)]
        targets = [*inner, network.reduce, network.hidden, network.embedding, network.classes]
        for module, (_, weight, bias) in zip(targets, layers, strict=True):
            state = module.state_dict()
            # the exporter leaves out a bias of nothing but zeros
            state["bias"] = torch.zeros(len(weight)) if bias is None else torch.from_numpy(bias)
            state["weight"] = torch.from_numpy(weight)
            module.load_state_dict(state)
    except (ValueError, RuntimeError) as e:
        raise BundleError(f"graph 'classify' is no Spec-CNN: {' '.join(str(e).split())}") from e
    return network.eval()


def _weighted_layers(
    graph: onnx.GraphProto,
) -> list[tuple[str, npt.NDArray[np.float32], npt.NDArray[np.float32] | None]]:
    """``(operator, weight, bias)`` of each layer with weights, first axis of the weight the outputs."""
    stored = {i.name: i for i in graph.initializer}

    def array(name: str) -> npt.NDArray[np.float32]:
        if name not in stored:
            raise BundleError(f"graph 'classify' is no Spec-CNN: '{name}' is computed, not stored")
        return np.array(numpy_helper.to_array(stored[name]), np.float32)

    layers = []
    for node in graph.node:
        if node.op_type in PLAIN:
            continue
        if node.op_type not in ("Conv", "Gemm"):
            raise BundleError(f"graph 'classify' is no Spec-CNN: it holds the operator {node.op_type}")
        weight = array(node.input[1])
        if node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute):
            weight = np.ascontiguousarray(weight.T)
        layers.append((node.op_type, weight, array(node.input[2]) if len(node.input) > 2 else None))
    return layers
