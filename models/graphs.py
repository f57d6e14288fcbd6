"""The static graphs: a Spec-CNN and its class masks as modules that export to ONNX with fixed names and shapes.

========= =============================== ==========================================================
graph     inputs                          outputs
========= =============================== ==========================================================
classify  features                        logits, probs, embedding, trunk
explain   trunk, features, cls (int32)    cam, mix
fused     features                        logits, probs, embedding, cls (int32), cam, mix
student   features, cls (int32)           map
========= =============================== ==========================================================

Shapes: ``features (B, n_planes, n_freq, n_time)``, ``trunk (B, K, n_freq, n_time / 4)``, ``cam`` and ``mix``
``(B, n_freq, n_time)``; B is dynamic. The masked second forward pass runs on ``B * k`` windows. Everything is float32
or int32 at the borders; ``half`` computes the convolutions of the trunk in float16 and all the rest in float32. The
student (`models.student`) is a network of its own: ``map (B, n_freq, n_time)`` for the class asked.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.score_cam import FLAT, min_max, top_channels
from models.spec_cnn import SpecCnn

__all__ = ["INPUTS", "OUTPUTS", "Classify", "Explain", "Fused", "build_graphs"]

INPUTS = {
    "classify": ("features",),
    "explain": ("trunk", "features", "cls"),
    "fused": ("features",),
    "student": ("features", "cls"),
}
OUTPUTS = {
    "classify": ("logits", "probs", "embedding", "trunk"),
    "explain": ("cam", "mix"),
    "fused": ("logits", "probs", "embedding", "cls", "cam", "mix"),
    "student": ("map",),
}


class _Trunk(nn.Module):
    """Convolutions of the network, in float16 inside if ``half``."""

    def __init__(self, network: SpecCnn, *, half: bool) -> None:
        super().__init__()
        self.features = network.features.half() if half else network.features
        self.half_inside = half

    def forward(self, x: Tensor) -> Tensor:
        a: Tensor = self.features(x.half() if self.half_inside else x)
        return a.float() if self.half_inside else a


class Classify(nn.Module):
    """features to logits, probabilities, embedding and trunk."""

    def __init__(self, network: SpecCnn, trunk: _Trunk) -> None:
        super().__init__()
        self.network, self.trunk = network, trunk

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Outputs in the order of `OUTPUTS`."""
        a = self.trunk(features)
        logits, embedding = self.network.head(a)
        return logits, torch.softmax(logits, 1), embedding, a


class Explain(nn.Module):
    """trunk, features and class to Score-CAM and its mix with the class mask.

    Parameters
    ----------
    class_masks : Tensor ``(n_labels, n_freq, n_time)``
        Kept in float16 (error below 2.5e-4), which halves the file.
    k : int
        Maps weighed: those of largest spatial standard deviation.
    fill : float
        Feature value where a mask is 0.
    """

    class_masks: Tensor

    def __init__(self, network: SpecCnn, trunk: _Trunk, class_masks: Tensor, k: int, fill: float) -> None:
        super().__init__()
        if not 1 <= k <= network.n_channels:
            raise ValueError(f"{k=} is not in 1..{network.n_channels}, the maps of the last convolution")
        self.network, self.trunk, self.k, self.fill = network, trunk, k, fill
        self.register_buffer("class_masks", class_masks.half())
        c = network.config
        self.size = (c.n_planes, c.n_freq, c.n_time)

    def forward(self, trunk: Tensor, features: Tensor, cls: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs in the order of `OUTPUTS`."""
        n_planes, n_freq, n_time = self.size
        index = top_channels(trunk, self.k)[:, :, None, None]
        a = torch.gather(trunk, 1, index.expand(-1, -1, n_freq, trunk.shape[3]))  # (B, k, n_freq, n_time')
        up = functional.interpolate(a, size=(n_freq, n_time), mode="bilinear", align_corners=False)
        masks = min_max(up)  # (B, k, n_freq, n_time)
        shaped = (up.amax((2, 3)) - up.amin((2, 3)) > FLAT).to(torch.float32)
        m = masks[:, :, None]
        masked = features[:, None] * m + self.fill * (1.0 - m)
        logits = self.network.head(self.trunk(masked.reshape(-1, n_planes, n_freq, n_time)))[0]
        scores = torch.softmax(logits, 1).reshape(-1, self.k, logits.shape[1])  # (B, k, n_labels)
        chosen = cls.long()
        weights = torch.gather(scores, 2, chosen[:, None, None].expand(-1, self.k, 1))[..., 0] * shaped
        cam = min_max(torch.relu((weights[:, :, None, None] * masks).sum(1)))
        return cam, 0.5 * (cam + self.class_masks[chosen].float())


class Fused(nn.Module):
    """Both in one call: the likeliest class is the one explained."""

    def __init__(self, classify: Classify, explain: Explain) -> None:
        super().__init__()
        self.classify, self.explain = classify, explain

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the order of `OUTPUTS`."""
        logits, probs, embedding, trunk = self.classify(features)
        cls = probs.argmax(1).to(torch.int32)
        cam, mix = self.explain(trunk, features, cls)
        return logits, probs, embedding, cls, cam, mix


def build_graphs(
    network: SpecCnn, class_masks: Tensor, k: int, fill: float, *, half: bool = False
) -> dict[str, Classify | Explain | Fused]:
    """All graphs of a network; ``half`` changes the network's own convolutions to float16."""
    trunk = _Trunk(network, half=half)
    classify = Classify(network, trunk)
    explain = Explain(network, trunk, class_masks, k, fill)
    return {"classify": classify.eval(), "explain": explain.eval(), "fused": Fused(classify, explain).eval()}
