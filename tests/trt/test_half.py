"""The shipped half-precision graphs, run on the CPU, keep within what the bundle allows a card."""

from __future__ import annotations

from models.bundle import Bundle
from tests.trt.half import golden_differences


def test_half_precision_graphs_reproduce_the_golden_outputs() -> None:
    bundle = Bundle.load(Bundle.shipped())
    found = golden_differences(bundle)
    assert set(found) == set(bundle.graph_names("f16"))
    for graph, by in found.items():
        for output, (difference, allowed) in by.items():
            assert difference <= allowed, (graph, output)
