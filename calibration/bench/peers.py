"""The Score-CAM of two public libraries, as they are installed, on our network.

========================= ==================================== ==============================================
library                   import name                          what it is told
========================= ==================================== ==============================================
grad-cam                  ``pytorch_grad_cam.ScoreCAM``        ``batch_size``: masked windows per forward pass
torchcam                  ``torchcam.methods.ScoreCAM``        the same, across the windows of a batch, too
========================= ==================================== ==============================================

Both weigh all channels, mask to zero, take the softmax over the maps of the logit of the class, and sum activations.
torchcam leaves its map at the size of the trunk; it is not charged for the enlargement.
"""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch

from models.spec_cnn import SpecCnn

__all__ = ["PEERS", "grad_cam", "torch_cam"]

F32 = npt.NDArray[np.float32]
Maps = Callable[[F32], F32]
"""Windows ``(n, n_planes, n_freq, n_time)`` to maps ``(n, n_freq, n_time or less)``, of the likeliest class of each."""


def grad_cam(network: SpecCnn, batch_size: int) -> Maps:
    """Score-CAM of pytorch-grad-cam.

    Raises
    ------
    ImportError
        If it, or a library it really needs, is not installed.
    """
    with _torchvision_for_import():
        library = importlib.import_module("pytorch_grad_cam")
    own = copy.deepcopy(network)  # hooks of one library must not run in the passes of another
    cam = library.ScoreCAM(own, [own.features[-1]])
    cam.batch_size = batch_size

    def run(x: F32) -> F32:
        with torch.inference_mode(), _no_bars():
            out: F32 = cam(torch.from_numpy(x), None)
        cam.activations_and_grads.activations = []  # else every trunk of the pass stays until the next: 17 MB a window
        return out

    return run


def torch_cam(network: SpecCnn, batch_size: int) -> Maps:
    """Score-CAM of torch-cam.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    methods = importlib.import_module("torchcam.methods")
    own = copy.deepcopy(network)
    cam = methods.ScoreCAM(own, own.features[-1], batch_size=batch_size)

    def run(x: F32) -> F32:
        with torch.inference_mode():
            logits = own(torch.from_numpy(x))
            out: F32 = cam(logits.argmax(1).tolist(), logits)[0].numpy()
        return out

    return run


PEERS: dict[str, tuple[str, Callable[[SpecCnn, int], Maps]]] = {
    "pytorch-grad-cam": ("grad-cam", grad_cam),
    "torch-cam": ("torchcam", torch_cam),
}
"""Name: its distribution on PyPI, and how it is made."""


@contextmanager
def _torchvision_for_import() -> Iterator[None]:
    """Let pytorch_grad_cam be imported where torchvision is absent.

    It imports four names of torchvision for reading pictures and for detectors; none is called by ScoreCAM. PyPI's
    torchvision is built for torch with CUDA and does not import beside the CPU build of torch. The stand-ins refuse
    to be called and leave ``sys.modules`` again.
    """
    if "pytorch_grad_cam" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        yield
        return
    names = {
        "torchvision": (),
        "torchvision.transforms": ("Compose", "Normalize", "ToTensor"),
        "torchvision.transforms.functional": ("resize",),
    }
    for module, functions in names.items():
        stand_in = types.ModuleType(module, "Stand-in while pytorch_grad_cam is imported.")
        for function in functions:
            setattr(stand_in, function, functools.partial(_refuse, f"{module}.{function}"))
        sys.modules[module] = stand_in
    try:
        yield
    finally:
        for module in names:
            del sys.modules[module]


def _refuse(name: str, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401  (whatever it is called with, it refuses)
    raise NotImplementedError(f"{name} is a stand-in: torchvision is not installed")


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep tqdm silent, and without its watching thread; pytorch_grad_cam shows a bar per window."""
    tqdm = importlib.import_module("tqdm").tqdm
    init, interval = tqdm.__init__, tqdm.monitor_interval
    tqdm.__init__, tqdm.monitor_interval = functools.partialmethod(init, disable=True), 0
    try:
        yield
    finally:
        tqdm.__init__, tqdm.monitor_interval = init, interval
