"""``systemctl reload``: another engine serves in the same process, and a wrong setting changes nothing."""

from __future__ import annotations

from tests.unit.container import Container
from tests.unit.steps import TONALD, config, expect, hears, launch, running, until


def serves(c: Container, name: str) -> bool:
    """Which engine ``info/`` tells of."""
    info = c.ask("timeout", "30", TONALD, "listen", "--json", "--topics", "info/", "--once", "1")
    return f'"name": "{name}"' in info


def exchange(c: Container) -> str:
    """The settings of another engine come into force by a reload; after that a wrong key does not."""
    launch(c, config(engine="onnxruntime"))
    hears(c)
    expect(serves(c, "onnxruntime"), "another engine serves")
    before = running(c)
    c.write("/etc/tonald/tonald.toml", config(engine="openvino"))
    c.must("systemctl", "reload", "tonald")
    took = until(lambda: serves(c, "openvino"), "the old engine serves on")
    hears(c)
    c.write("/etc/tonald/tonald.toml", config(engine="openvino", more='bundel = "x"'))
    c.run("systemctl", "reload", "tonald")
    until(lambda: "not reloaded: " in c.show("StatusText"), "the status does not say that it was refused")
    hears(c)
    expect(serves(c, "openvino") and c.show("ActiveState") == "active", "it does not serve as before")
    expect(c.main_pid() == before, "another process")
    return f"another engine after {took:.1f} s, in the same process; a wrong key refused, told in the status line"
