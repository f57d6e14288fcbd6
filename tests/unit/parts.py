"""What the unit promises, and how each promise is tried; in this order."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit import dying, hearing, network, reloading, serving
from tests.unit.container import Container

PARTS: dict[str, tuple[str, Callable[[Container], str]]] = {
    "start": ("READY after the golden test, records, status", serving.start),
    "words": ("READY, WATCHDOG, STOPPING on the real socket", serving.words),
    "confined": ("may do and write no more than it must", serving.confined),
    "onnxruntime": ("engine works under the unit", serving.engine("onnxruntime")),
    "openvino": ("engine works under the unit", serving.engine("openvino")),
    "capture": ("PortAudio captures under the unit", hearing.capture),
    "lost_card": ("a lost card is waited for", hearing.lost_card),
    "no_card": ("waits for a card and is left alive", hearing.no_card),
    "hang": ("a hang is ended, with the stacks", dying.hang("onnxruntime")),
    "hang_openvino": ("the same with compiled code under way", dying.hang("openvino")),
    "frozen": ("a process that stands still is ended", dying.frozen),
    "killed": ("kill -9: started again", dying.killed),
    "port_taken": ("fails, and is tried again", dying.port_taken),
    "bad_config": ("fails, and does not loop", dying.bad_config),
    "bad_bundle": ("fails, and does not loop", dying.bad_bundle),
    "reload": ("keys by credential, list at reload", network.reload),
    "exchange": ("settings exchanged at reload, or refused", reloading.exchange),
    "network": ("the network only by drop-in and keys", network.network),
    "instances": ("several daemons by the template", network.instances),
    "stop": ("clean, and told", serving.stop),
    "no_crash": ("no end but those caused", dying.no_crash),
}
"""Name, promise, proof."""
