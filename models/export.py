"""Networks as ONNX files: opset 18, float32 and int32 at the borders, dynamic batch, weights inside, nothing else.

float16 files compute the trunk's convolutions in half precision and all the rest in float32; they are made for
TensorRT, where the file alone states the precision.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections import Counter
from collections.abc import Sequence

import onnx
import torch
from torch import nn

from models.feature_spec import FeatureSpec
from models.graphs import INPUTS, OUTPUTS, build_graphs
from models.spec_cnn import SpecCnn
from models.weigher import Weigher

__all__ = ["BATCH", "OPSET", "export_graphs", "export_student", "fold_batch_norm", "op_types"]

OPSET = 18
BATCH = "batch"
"""Name of the dynamic axis."""


def fold_batch_norm(network: SpecCnn) -> SpecCnn:
    """Copy of a network in evaluation mode whose batch normalisation is part of its convolutions: same answers."""
    folded = copy.deepcopy(network).eval()
    layers: list[nn.Module] = []
    for layer in folded.features:
        if isinstance(layer, nn.BatchNorm2d) and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = nn.utils.fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    folded.features = nn.Sequential(*layers)
    for p in folded.parameters():
        p.requires_grad_(False)
    return folded


def export_graphs(
    network: SpecCnn,
    class_masks: torch.Tensor,
    spec: FeatureSpec,
    k: int,
    *,
    weigher: Weigher | None = None,
    precisions: Sequence[str] = ("f32", "f16"),
) -> dict[tuple[str, str], bytes]:
    """ONNX files ``{(graph, precision): bytes}``.

    Parameters
    ----------
    network : SpecCnn
    class_masks : Tensor float32 ``(n_labels, n_freq, n_time)``
    spec : FeatureSpec
        Gives shapes and fill.
    k : int
        Maps that Score-CAM weighs, where there is no weigher.
    weigher : Weigher, optional
        See `models.weigher`.
    precisions : sequence of {"f32", "f16"}

    Raises
    ------
    ValueError
        If the shapes of network, masks and front end differ, or ``k`` is out of range.
    """
    c = network.config
    if (c.n_planes, c.n_freq, c.n_time) != spec.shape or tuple(class_masks.shape) != (c.n_labels, *spec.shape[1:]):
        raise ValueError(f"network {c}, class masks {tuple(class_masks.shape)} and front end {spec.shape} do not fit")
    files = {}
    for precision in precisions:
        half = precision == "f16"
        graphs = build_graphs(fold_batch_norm(network), class_masks, k, spec.fill, weigher=weigher, half=half)
        features = torch.rand(2, *spec.shape)
        trunk = network.eval().trunk(features).detach()
        examples = {"features": features, "trunk": trunk, "cls": torch.zeros(2, dtype=torch.int32)}
        for name, graph in graphs.items():
            inputs = tuple(examples[i] for i in INPUTS[name])
            files[name, precision] = _export(graph, inputs, INPUTS[name], OUTPUTS[name])
    return files


def export_student(
    student: nn.Module, spec: FeatureSpec, precisions: Sequence[str] = ("f32", "f16")
) -> dict[tuple[str, str], bytes]:
    """ONNX files of the student, computed in float32 whatever the precision of the other graphs beside it."""
    inputs = (torch.rand(2, *spec.shape), torch.zeros(2, dtype=torch.int32))
    file = _export(student.eval(), inputs, INPUTS["student"], OUTPUTS["student"])
    return {("student", precision): file for precision in precisions}


def _export(graph: nn.Module, inputs: tuple[torch.Tensor, ...], names: Sequence[str], outputs: Sequence[str]) -> bytes:
    batch = torch.export.Dim(BATCH, min=1, max=4096)
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # the exporter of torch 2.13 warns of its own internals: deprecations we can do nothing about
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            program = torch.onnx.export(
                graph,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(names),
                output_names=list(outputs),
                dynamic_shapes=tuple({0: batch} for _ in names),
                external_data=False,
                verbose=False,
            )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    assert program is not None
    data: bytes = _plain(program.model_proto).SerializeToString()
    return data


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without names of source files, traces and tools: the same network gives the same bytes on any machine."""
    model.producer_name, model.producer_version, model.doc_string, model.domain = "tonald", "", "", ""
    del model.metadata_props[:], model.functions[:]
    graph = model.graph
    graph.name, graph.doc_string = "tonald", ""
    del graph.metadata_props[:], graph.value_info[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*graph.input, *graph.output, *graph.initializer]:
        value.doc_string = ""
        if hasattr(value, "metadata_props"):
            del value.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def op_types(file: bytes) -> Counter[str]:
    """How often each operator stands in an ONNX file."""
    return Counter(node.op_type for node in onnx.load_from_string(file).graph.node)
