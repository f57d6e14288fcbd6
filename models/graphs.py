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
``(B, n_freq, n_time)``; B is dynamic. Weights of Score-CAM come from a weigher (`models.weigher`), where calibration
found one: its few coarse passes run on ``B * k`` windows laid on their side, so that a convolution's inner loop goes
along the long axis. Without one the masked second pass runs on ``B * k`` whole windows. Everything is float32 or int32
at the borders; ``half`` computes the convolutions of the trunk in float16 and all the rest in float32. The
student (`models.student`) is a network of its own: ``map (B, n_freq, n_time)`` for the class asked.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.score_cam import FLAT, min_max, top_channels
from models.spec_cnn import SpecCnn
from models.weigher import STD_FLOOR, Weigher

__all__ = ["INPUTS", "OUTPUTS", "Classify", "Explain", "Fused", "QuickExplain", "build_graphs"]

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


class _OnItsSide(nn.Module):
    """The network for windows with time as the first axis and frequency as the second: the same answers."""

    def __init__(self, network: SpecCnn) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in network.features:
            turned = layer
            if isinstance(layer, nn.Conv2d):
                turned = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1, bias=layer.bias is not None)
                turned.weight.data = layer.weight.detach().transpose(2, 3).contiguous()
                if layer.bias is not None and turned.bias is not None:
                    turned.bias.data = layer.bias.detach().clone()
            elif isinstance(layer, nn.MaxPool2d):
                turned = nn.MaxPool2d((2, 1))
            layers.append(turned)
        self.features, self.pool = nn.Sequential(*layers), nn.MaxPool2d((2, 1))
        self.reduce, self.hidden = network.reduce, network.hidden
        self.embedding, self.classes = network.embedding, network.classes

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, n_labels)`` of ``(B, n_planes, n_columns, n_freq)``."""
        h = self.reduce(self.pool(self.features(x))).mean(2)  # (B, n_reduced, n_freq)
        h = torch.relu(self.hidden(h.flatten(1)))
        logits: Tensor = self.classes(torch.relu(self.embedding(h)))
        return logits


class QuickExplain(nn.Module):
    """trunk, features and class to Score-CAM by a weigher, and its mix with the class mask (`models.weigher`).

    Parameters
    ----------
    class_masks : Tensor ``(n_labels, n_freq, n_time)``
    weigher : Weigher
        Of this network.
    fill : float
    half : bool
        The coarse passes compute their convolutions in float16.
    """

    class_masks: Tensor
    channels: Tensor
    matrix: Tensor
    offset: Tensor

    def __init__(
        self, network: SpecCnn, class_masks: Tensor, weigher: Weigher, fill: float, *, half: bool = False
    ) -> None:
        super().__init__()
        c = network.config
        n_out = network.n_channels * c.n_labels
        if weigher.matrix.shape != (Weigher.n_inputs(weigher.k, network.n_channels, c.n_labels), n_out):
            raise ValueError(f"weigher of shape {weigher.matrix.shape} is not one of this network")
        self.network, self.fill, self.pool, self.half_inside = network, fill, weigher.pool, half
        self.side = _OnItsSide(network)
        if half:
            self.side.features = self.side.features.half()
        self.register_buffer("class_masks", class_masks.half())
        self.register_buffer("channels", torch.tensor(weigher.channels))
        self.register_buffer("matrix", torch.from_numpy(weigher.matrix.copy()))
        self.register_buffer("offset", torch.from_numpy(weigher.offset.copy()))
        self.size = (c.n_planes, c.n_freq, c.n_time)

    def forward(self, trunk: Tensor, features: Tensor, cls: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs in the order of `OUTPUTS`."""
        n_planes, n_freq, n_time = self.size
        n_columns = trunk.shape[3] // self.pool
        n_batch, n_maps = trunk.shape[:2]
        flat = trunk.flatten(2)  # (B, K, n_freq * n_time')
        low, high, mean = flat.amin(2), flat.amax(2), flat.mean(2)  # (B, K)
        span = (high - low).clamp(min=FLAT)
        picked = trunk[:, self.channels]
        h = (picked - low[:, self.channels, None, None]) / span[:, self.channels, None, None]
        if self.pool > 1:
            h = functional.avg_pool2d(h, (1, self.pool))
        h = h.transpose(2, 3)[:, :, None]  # (B, k, 1, n_columns, n_freq)
        coarse = functional.avg_pool2d(features, (1, n_time // n_columns))  # (B, n_planes, n_freq, n_columns)
        masked = (coarse.transpose(2, 3)[:, None] - self.fill) * h + self.fill
        logits = self._pass(masked.reshape(-1, n_planes, n_columns, n_freq))
        spread = (flat.square().mean(2) - mean.square()).clamp(min=0.0).sqrt()
        v = torch.cat([
            torch.log_softmax(logits, 1).reshape(n_batch, -1), torch.log_softmax(self.network.head(trunk)[0], 1),
            torch.log(spread + STD_FLOOR), (mean - low) / span,
        ], 1)  # fmt: skip
        every = (v @ self.matrix + self.offset).clamp(max=0.0).exp().reshape(n_batch, n_maps, -1)
        chosen = cls.long()
        own = torch.gather(every, 2, chosen[:, None, None].expand(-1, n_maps, 1))[..., 0]  # (B, K)
        own = own * (high - low > FLAT).to(torch.float32) / span
        # sum of w (A - low) / span; maps are added before the one result is enlarged
        summed = torch.matmul(own[:, None], flat) - (own * low).sum(1)[:, None, None]
        up = functional.interpolate(
            summed.reshape(n_batch, 1, n_freq, -1), size=(n_freq, n_time), mode="bilinear", align_corners=False
        )[:, 0]
        cam = min_max(torch.relu(up))
        return cam, 0.5 * (cam + self.class_masks[chosen].float())

    def _pass(self, x: Tensor) -> Tensor:
        if not self.half_inside:
            logits: Tensor = self.side(x)
            return logits
        a = self.side.features(x.half()).float()
        h = self.side.reduce(self.side.pool(a)).mean(2)
        h = torch.relu(self.side.hidden(h.flatten(1)))
        out: Tensor = self.side.classes(torch.relu(self.side.embedding(h)))
        return out


class Fused(nn.Module):
    """Both in one call: the likeliest class is the one explained."""

    def __init__(self, classify: Classify, explain: Explain | QuickExplain) -> None:
        super().__init__()
        self.classify, self.explain = classify, explain

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the order of `OUTPUTS`."""
        logits, probs, embedding, trunk = self.classify(features)
        cls = probs.argmax(1).to(torch.int32)
        cam, mix = self.explain(trunk, features, cls)
        return logits, probs, embedding, cls, cam, mix


def build_graphs(
    network: SpecCnn, class_masks: Tensor, k: int, fill: float, *, weigher: Weigher | None = None, half: bool = False
) -> dict[str, Classify | Explain | QuickExplain | Fused]:
    """All graphs of a network; with a ``weigher`` it says which maps are weighed, otherwise the ``k`` that vary most.

    ``half`` changes the network's own convolutions to float16.
    """
    explain: Explain | QuickExplain
    if weigher is None:
        trunk = _Trunk(network, half=half)
        explain = Explain(network, trunk, class_masks, k, fill)
    else:
        explain = QuickExplain(network, class_masks, weigher, fill, half=half)
        trunk = _Trunk(network, half=half)
    classify = Classify(network, trunk)
    return {"classify": classify.eval(), "explain": explain.eval(), "fused": Fused(classify, explain).eval()}
