"""Faults of settings: mistakes, nonsense, and ten thousand mutated files."""

from __future__ import annotations

import random
import time
from pathlib import Path

from daemon.config import Config
from daemon.config_reference import reference
from models.errors import ConfigError
from tests.faults.catalogue import fault, promise
from tests.faults.hostile import mutated
from tests.faults.vessel import Daemon, toml

BAD = {
    "[publish]\nendpoint = ''\n": "unknown key 'publish.endpoint'; nearest is 'endpoints'",
    "[window]\nhop_s = -1.0\n": "window.hop_s = -1.0 is not positive",
    "[source]\nkind = 'sonar'\n": "source.kind = 'sonar' is not one of",
    "node = 'a b'\n": "node = 'a b'",
    "[source\n": "line 1",
    "[source]\nfs = 'high'\n": "source.fs = 'high' is not a whole number",
}


@fault(20, "bad configuration, six kinds of mistake", "exit 78 with file, line and the nearest key; no restart loop")
def mistakes(folder: Path) -> str:
    for i, (text, said) in enumerate(BAD.items()):
        with Daemon(folder / str(i), name=f"n{i}", words=("--config", str(_write(folder, i, text)))) as daemon:
            code = daemon.wait(30)
            promise(code == 78, f"{text!r}: exit code {code}")
            promise(said in daemon.last_line, f"{text!r}: '{daemon.last_line}'")
            promise(f"bad{i}.toml" in daemon.last_line, f"{text!r}: the file is not named")
    unit = (Path(__file__).resolve().parents[2] / "systemd" / "tonald.service").read_text()
    (line,) = [x for x in unit.splitlines() if x.startswith("RestartPreventExitStatus=")]
    promise("78" in line.partition("=")[2].split(), f"the unit restarts on 78: {line}")
    return f"6 of 6: exit 78, file and key named; unit has {line}"


def _write(folder: Path, i: int, text: str) -> Path:
    path = folder / f"bad{i}.toml"
    path.write_text(text)
    return path


@fault(65, "configuration fuzz: 20 000 mutated files read, 30 of them by the program",
       "read, or refused with one clear error; never anything else; at most 1 s each")  # fmt: skip
def fuzzed(folder: Path) -> str:
    rng = random.Random(65)
    seeds = [reference(), toml({"source.kind": "file", "source.path": "x.wav", "publish.hwm": 10}), *BAD]
    n_read = n_refused = 0
    slowest = 0.0
    texts = []
    for i in range(20_000):
        text = mutated(rng, rng.choice(seeds).encode()).decode("utf-8", "replace")
        began = time.monotonic()
        try:
            Config.parse(text, "fuzz.toml")
            n_read += 1
        except ConfigError:
            n_refused += 1
            if i % 600 == 0:
                texts.append(text)
        slowest = max(slowest, time.monotonic() - began)
    promise(slowest < 1.0, f"one took {slowest:.1f} s")
    for i, text in enumerate(texts[:30]):
        with Daemon(folder / str(i), name="n", words=("--config", str(_write(folder, i, text)))) as daemon:
            code = daemon.wait(30)
            promise(code == 78 and "Traceback" not in daemon.log, f"{text[:60]!r}: exit {code}")
    return (
        f"{n_read} read, {n_refused} refused, slowest {slowest * 1e3:.0f} ms; {len(texts[:30])} by the program: exit 78"
    )
