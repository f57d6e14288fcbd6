"""What the ONNX parser of TensorRT 10.3, the oldest release served, is documented to take; and a check against it.

No wheel of that parser exists. Its documentation does: the table of operators and types of onnx-tensorrt
(``docs/operators.md``; the last one at hand before 10.3 is that of 8.4, commit 009d6541) and the releases since
(``docs/Changelog.md`` up to 10.3: int64 since 9.0, integers in ArgMax and TopK since 8.6 and 9.3, the axes of Slice
as a tensor since 10.3). Nothing was taken away between. Opsets 9 to 20 are those of the parser of 10.1, ONNX 1.16 (IR
version 10) that of 10.0 to 10.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper, shape_inference

__all__ = ["Facts", "check"]

OPSETS = range(9, 21)
MAX_IR = 10
MAX_TOP_K = 3840
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})
INTEGERS = frozenset({TensorProto.INT32, TensorProto.INT64})
BOOL = frozenset({TensorProto.BOOL})
#: Without ScatterElements, a plugin in 10.3: the engine loads none.
TABLE = {
    FLOATS: """
        Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh
        CumSum Einsum Elu Erf Exp Floor Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization HardSigmoid
        InstanceNormalization LRN LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LpPool MatMul MaxPool
        PRelu Pow ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
        ReduceSumSquare Relu Resize Round Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu
    """,
    FLOATS | INTEGERS: """
        Abs Add ArgMax ArgMin DepthToSpace Div Equal Gather GatherElements GatherND Greater GreaterOrEqual Less
        LessOrEqual Max Mean Min Mul Neg Pad Range ScatterND Sign SpaceToDepth Sub Sum TopK
    """,
    FLOATS | INTEGERS | BOOL: """
        Cast Concat Constant ConstantOfShape Expand Flatten Identity Reshape Shape Size Slice Split Squeeze
        Tile Transpose Unsqueeze Where
    """,
    BOOL: "And Not Or Xor",
}
TYPES = {op: types for types, ops in TABLE.items() for op in ops.split()}
#: Their second input, the axes, must be a constant.
WITH_AXES = (*(op for op in TYPES if op.startswith("Reduce")), "Squeeze", "Unsqueeze")
#: Inputs whose type the table does not speak of: counts, shapes, axes, indices, the condition of Where.
ASIDE = {
    **{op: {1} for op in WITH_AXES}, "ConstantOfShape": {0}, "Reshape": {1}, "Expand": {1}, "Tile": {1},
    "TopK": {1}, "Resize": {1, 2, 3}, "Gather": {1}, "GatherElements": {1}, "GatherND": {1},
    "ScatterND": {1}, "CumSum": {1},
    "Slice": {1, 2, 3, 4}, "Split": {1}, "Pad": {1, 3},
}  # fmt: skip
RESIZE_MODES = ("nearest", "linear")
RESIZE_COORDINATES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")


@dataclass(frozen=True, slots=True)
class Facts:
    """What stands in a graph, and what of it is not documented."""

    opset: int
    ops: frozenset[str]
    wrong: tuple[str, ...]


def check(file: bytes) -> Facts:
    """Compare one ONNX file with what is documented."""
    model = shape_inference.infer_shapes(onnx.load_from_string(file), strict_mode=True, data_prop=True)
    graph = model.graph
    opset = max(o.version for o in model.opset_import)
    wrong = [f"domain {o.domain}" for o in model.opset_import if o.domain not in ("", "ai.onnx")]
    if opset not in OPSETS:
        wrong.append(f"opset {opset}, documented are {OPSETS.start} to {OPSETS.stop - 1}")
    if model.ir_version > MAX_IR:
        wrong.append(f"IR version {model.ir_version}, known up to {MAX_IR}")
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    types |= {i.name: i.data_type for i in graph.initializer}
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in (*graph.input, *graph.output, *graph.value_info)}
    constants = {i.name: i for i in graph.initializer}
    for node in graph.node:
        wrong += [f"{node.op_type} {node.name}: {why}" for why in _node(node, types, ranks, constants)]
    return Facts(opset, frozenset(n.op_type for n in graph.node), tuple(wrong))


def _node(
    node: onnx.NodeProto, types: dict[str, int], ranks: dict[str, int], constants: dict[str, TensorProto]
) -> list[str]:
    op = node.op_type
    if op not in TYPES:
        return ["not documented for 10.3"]
    out = []
    seen = [name for i, name in enumerate(node.input) if name and i not in ASIDE.get(op, set())]
    for name in seen:
        if name not in types:
            out.append(f"the type of {name} is not known")
        elif types[name] not in TYPES[op]:
            out.append(f"{TensorProto.DataType.Name(types[name])} is not documented")
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if any(isinstance(a, onnx.GraphProto) for a in attributes.values()):
        out.append("holds a graph of its own")
    if op == "Cast" and attributes["to"] not in FLOATS | INTEGERS | BOOL:
        out.append(f"to {TensorProto.DataType.Name(attributes['to'])} is not documented")
    if op in WITH_AXES and len(node.input) > 1 and node.input[1] not in constants:
        out.append("axes must be a constant")
    if op in ("MaxPool", "AveragePool"):
        if ranks.get(node.input[0]) not in (4, 5):
            out.append("only in two or three dimensions")
        if any(d != 1 for d in attributes.get("dilations", ())) or len(node.output) > 1:
            out.append("dilations and indices are not documented")
    if op == "TopK":
        k = constants.get(node.input[1])
        if k is not None and int(onnx.numpy_helper.to_array(k).item()) > MAX_TOP_K:
            out.append(f"k may be {MAX_TOP_K} at most")
    if op == "Resize":
        out += _resize(attributes)
    return out


def _resize(attributes: dict[str, object]) -> list[str]:
    def text(name: str, default: str) -> str:
        value = attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    out = []
    if text("mode", "nearest") not in RESIZE_MODES:
        out.append(f"mode {text('mode', 'nearest')} is not documented")
    if text("coordinate_transformation_mode", "half_pixel") not in RESIZE_COORDINATES:
        out.append(f"{text('coordinate_transformation_mode', 'half_pixel')} is not documented")
    if attributes.get("antialias"):
        out.append("antialias is not documented")
    return out
