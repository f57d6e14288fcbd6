"""Faults of what computes: overload, an engine that hangs, throws or lies, a bundle that is damaged or a misfit."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle
from models.manifest import FileInfo, parse_manifest, render_manifest
from tests.faults.card import hydrophone, stop_all
from tests.faults.catalogue import NotRun, fault, promise
from tests.faults.ear import Ear
from tests.faults.sea import FS, OCEAN, of_file, recording, sound, write
from tests.faults.vessel import Daemon, Manager, wait_for

ONNX = {"engine.name": "onnxruntime"}


def sabotaged(what: str, trigger: Path) -> dict[str, Any]:
    """Of ``Daemon``: the command with a part that fails once ``trigger`` exists."""
    return {"command": (sys.executable, "-m", "tests.faults.sabotage", what, str(trigger))}


@fault(10, "interpreter of the daemon held for 3 s by a native call, three times, a card running", "0 frames lost")
def gil(folder: Path) -> str:
    trigger = folder / "hold"
    with hydrophone(folder, **sabotaged("gil", trigger)) as (server, daemon, ear):
        for _ in range(3):
            trigger.write_text("3.0")
            time.sleep(5)
        ear.await_some("window", 16, timeout_s=60)
        stop_all(server, ear, daemon)
        account = ear.account()
    promise(not account.gaps and account.n_epochs == 1, f"sound was lost: {account}")
    return f"no gap; {account}"


@fault(11, "inference slower than real time (each engine call takes 1.5 s longer), a card running",
       "work is left out step by step, told; records carry the step; nothing lost in silence; recovers")  # fmt: skip
def slow_engine(folder: Path) -> str:
    trigger = folder / "slow"
    with hydrophone(folder, ONNX, **sabotaged("engine-slow", trigger)) as (server, daemon, ear):
        (folder / "t").write_text("1.5")
        (folder / "t").rename(trigger)
        ear.await_some("status", timeout_s=60, test=lambda b: b["overload_step"] >= 2)
        ear.await_some("window", 2, timeout_s=60, reason="overload")
        trigger.unlink()
        ear.await_some("status", timeout_s=200, test=lambda b: b["overload_step"] == 0 and "whole" in b["detail"])
        stop_all(server, ear, daemon)
        account = ear.account()
        steps = [b["overload_step"] for b in ear.of("status", channel="ch0") if "overload step" in b["detail"]]
    n_lost = sum(g["n_samples"] or 0 for g in account.gaps if g["channel"] == "ch0")
    return f"steps {steps} told, {n_lost} samples lost and told; {account}"


@fault(17, "daemon hangs in a native call that never lets go (watchdog at 4 s)",
       "no more WATCHDOG=1; SIGABRT leaves all stacks in the log; the next one serves; the lost span is seen as a "
       "new publisher")  # fmt: skip
def hang(folder: Path) -> str:
    return _starved(folder, "gil", "3600")


@fault(50, "engine hangs in flight (its call never returns)", "watchdog starves, SIGABRT with stacks, restart serves")
def engine_hangs(folder: Path) -> str:
    return _starved(folder, "engine-hang", "")


def _starved(folder: Path, what: str, trigger_text: str) -> str:
    manager = Manager(folder)
    trigger = folder / "hang"
    try:
        with Daemon(folder, OCEAN | ONNX, env=manager.env, **sabotaged(what, trigger)) as daemon, \
                Ear(daemon.endpoint) as ear:  # fmt: skip
            ear.await_some("window", 4)
            wait_for(lambda: len(manager.said("WATCHDOG=1")) >= 2, 30, "two signs of life")
            (folder / "t").write_text(trigger_text)
            (folder / "t").rename(trigger)
            began = time.monotonic()
            wait_for(lambda: time.monotonic() - max([began, *manager.said("WATCHDOG=1")]) > 4.0, 60, "starvation")
            starved_s = time.monotonic() - began
            code = daemon.end(signal.SIGABRT)
            promise("Current thread" in daemon.log or "Thread 0x" in daemon.log, "no stacks in the log")
            trigger.unlink(missing_ok=True)
            with Daemon(folder, OCEAN | ONNX, env=manager.env):
                again_s = time.monotonic()
                ear.await_some("window", test=lambda b: b["publisher"] != ear.of("window")[0]["publisher"])
                again_s = time.monotonic() - again_s
            account = ear.account(whole=False)
    finally:
        manager.close()
    promise(code == -signal.SIGABRT, f"exit code {code}")
    return (
        f"starved {starved_s:.1f} s after the hang began, SIGABRT with stacks, next window {again_s:.1f} s after the "
        f"restart; {account}"
    )


@fault(18, "whole process frozen (SIGSTOP)", "no more WATCHDOG=1 within its time; killed, the next one serves")
def frozen(folder: Path) -> str:
    manager = Manager(folder)
    try:
        with Daemon(folder, OCEAN, env=manager.env) as daemon, Ear(daemon.endpoint) as ear:
            ear.await_some("window", 2)
            wait_for(lambda: manager.said("WATCHDOG=1"), 30, "a sign of life")
            daemon.process.send_signal(signal.SIGSTOP)
            n = len(manager.said("WATCHDOG=1"))
            time.sleep(4.5)
            promise(len(manager.said("WATCHDOG=1")) <= n + 1, "signs of life from a frozen process")
            daemon.end(signal.SIGKILL)
            first = ear.of("window")[0]["publisher"]
            with Daemon(folder, OCEAN, env=manager.env):
                began = time.monotonic()
                ear.await_some("window", test=lambda b: b["publisher"] != first)
                again_s = time.monotonic() - began
            account = ear.account(whole=False)
    finally:
        manager.close()
    return f"silent for 4.5 s, killed, next window {again_s:.1f} s after the restart; {account}"


@fault(
    51, "engine throws in flight", "the process ends non-zero with the reason in its last line; nothing wrong goes out"
)
def engine_throws(folder: Path) -> str:
    trigger = folder / "throw"
    with Daemon(folder, OCEAN | ONNX, **sabotaged("engine-throw", trigger)) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("window", 4)
        trigger.touch()
        code = daemon.wait(60)
        time.sleep(0.5)
        account = ear.account(whole=False)
        promise(code != 0, "it ended with 0")
        promise("lost its device" in daemon.last_line, "the last line does not say why")
    return f"exit code {code}, '{daemon.last_line[-80:]}'; records up to the failure: {account}"


@fault(52, "engine returns wrong numbers in flight (NaN; rolled by one place)",
       "nothing is made of NaN; wrong numbers are found by the next golden window; it serves no longer")  # fmt: skip
def engine_lies(folder: Path) -> str:
    words = []
    for how in ("nan", "wrong"):
        trigger = folder / how
        hear = of_file(recording(120.0)) | {"source.realtime": True, "window.hop_s": 0.25}
        with Daemon(folder / f"{how}.d", hear | ONNX, **sabotaged(f"engine-{how}", trigger)) as daemon, \
                Ear(daemon.endpoint) as ear:  # fmt: skip
            ear.await_some("window", 3)
            trigger.touch()
            n = len(ear.of("window"))
            code = daemon.wait(100)
            time.sleep(0.5)
            n = len(ear.of("window")) - n
            promise(code == 80, f"{how}: exit code {code}")
        words.append(f"{how}: exit 80 after {n} windows, '{daemon.last_line[:150]}'")
    return "; ".join(words)


@fault(
    71, "engine wrong from the start (adds 0.3 to its answers)", "refused by the golden test; another serves, or none"
)
def engine_false(folder: Path) -> str:
    trigger = folder / "none"
    with Daemon(folder, OCEAN | ONNX, **sabotaged("engine-false", trigger)) as daemon:
        code = daemon.wait(90)
        promise(code == 80, f"exit code {code}")
        promise("publishing on" not in daemon.log, "it served")
        first = daemon.last_line
    with Daemon(folder / "b", OCEAN, **sabotaged("engine-false", trigger)) as daemon, Ear(daemon.endpoint) as ear:
        (info, *_) = ear.await_some("info")
        ear.await_some("window", 2)
        promise(info["engine"]["name"] != "onnxruntime" and info["engine"]["passed_over"], "auto took a liar")
    return f"alone: exit 80, '{first[-110:]}'; auto: {info['engine']['name']} serves, the other is named in info/"


def _copy(folder: Path) -> Path:
    copy = folder / "bundle"
    shutil.copytree(Bundle.shipped(), copy)
    return copy


def _agree(copy: Path, **changes: Any) -> None:
    """The manifest agrees with the files again: what someone with write access to the bundle could do."""
    import hashlib

    path = copy / "manifest.json"
    m = parse_manifest(path.read_bytes())
    files = {
        name: FileInfo((copy / name).stat().st_size, hashlib.sha256((copy / name).read_bytes()).hexdigest())
        for name in m.files
    }
    path.write_bytes(render_manifest(dataclasses.replace(m, files=files, **changes)))


@fault(
    35, "model missing, truncated, or swapped for another", "refused by hash before parsing: exit 79, the file named"
)
def model_damaged(folder: Path) -> str:
    words = []
    for how in ("missing", "truncated", "swapped", "one bit"):
        copy = _copy(folder / how.replace(" ", ""))
        graph = next((copy / "graphs").glob("classify.f32*"))
        data = graph.read_bytes()
        if how == "missing":
            graph.unlink()
        elif how == "truncated":
            graph.write_bytes(data[: len(data) // 2])
        elif how == "swapped":
            shutil.copy(next((copy / "graphs").glob("student*")), graph)
        else:
            graph.write_bytes(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])
        with Daemon(folder / f"{len(words)}", OCEAN | {"bundle": str(copy)}) as daemon:
            code = daemon.wait(60)
            promise(code == 79, f"{how}: exit code {code}")
            promise(graph.name in daemon.last_line, f"{how}: the last line does not name {graph.name}")
        words.append(f"{how}: 79")
    return f"{', '.join(words)}; '{daemon.last_line[-90:]}'"


@fault(36, "model drifts or gives NaN on the golden windows (weights altered, manifest made to agree)",
       "golden test fails: not READY, exit 80")  # fmt: skip
def model_drifts(folder: Path) -> str:
    import onnx
    from onnx import numpy_helper

    words = []
    manager = Manager(folder)
    try:
        for how in ("drift", "nan"):
            copy = _copy(folder / how)
            graph = next((copy / "graphs").glob("classify.f32*"))
            model = onnx.load(graph)
            weights = max(model.graph.initializer, key=lambda w: len(w.raw_data))
            a = numpy_helper.to_array(weights).copy()
            a.flat[:] = a * np.float32(1.01) if how == "drift" else np.float32(np.nan)
            weights.CopyFrom(numpy_helper.from_array(a, weights.name))
            onnx.save(model, graph)
            _agree(copy)
            with Daemon(folder / f"{how}.d", OCEAN | {"bundle": str(copy)}, env=manager.env) as daemon:
                code = daemon.wait(120)
                promise(code == 80, f"{how}: exit code {code}")
                promise("golden" in daemon.last_line, f"{how}: the last line does not speak of the golden outputs")
            words.append(f"{how}: 80, '{daemon.last_line[-100:]}'")
        promise(not manager.said("READY=1"), "READY was said")
    finally:
        manager.close()
    return "; ".join(words)


@fault(37, "sound below the model's rate; a manifest whose shape is not the graph's", "refused with both values")
def other_shape(folder: Path) -> str:
    low = write(folder / "low.wav", sound(20.0)[::8], 1000)
    with Daemon(folder, of_file(low) | {"publish.wait_subscriber_s": 0.0}, words=("--once",)) as daemon:
        code = daemon.wait(60)
        promise(code == 65, f"rate: exit code {code}")
        promise("1000" in daemon.last_line, "the rate is not named")
        rate = daemon.last_line
    copy = _copy(folder)
    spec = Bundle.load(copy).spec
    _agree(copy, spec=dataclasses.replace(spec, n_freq=spec.n_freq - 1))
    with Daemon(folder / "b", OCEAN | {"bundle": str(copy)}) as daemon:
        code = daemon.wait(90)
        promise(code in (79, 80), f"shape: exit code {code}")
        shape = daemon.last_line
    return f"65, '{rate[-90:]}'; {code}, '{shape[-110:]}'"


@fault(38, "accelerator lost in flight", "falls back to the CPU or ends and comes back on it; status says so")
def accelerator_lost(_folder: Path) -> str:
    raise NotRun("no GPU here; nearest run: 51 (engine throws in flight) and 71 (auto passes over what fails its test)")


@fault(53, "bundle swapped for a corrupt one in flight, then SIGHUP", "refused, the old one serves on; no sample lost")
def bundle_swapped(folder: Path) -> str:
    copy = _copy(folder)
    with Daemon(folder, OCEAN | {"bundle": str(copy)}) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("window", 4)
        graph = next((copy / "graphs").glob("classify.f32*"))
        data = bytearray(graph.read_bytes())
        data[len(data) // 2] ^= 0xFF
        graph.write_bytes(data)
        daemon.process.send_signal(signal.SIGHUP)
        n = len(ear.of("window"))
        daemon.await_log(graph.name, 60)
        ear.await_some("window", n + 3)
        daemon.end()
        ear.await_end()
        account = ear.account()
        (line,) = [x for x in daemon.log.splitlines() if graph.name in x][:1]
    promise(account.n_slots == account.n_analysed and not account.gaps, f"sound was lost: {account}")
    return f"'{line[-120:]}'; {account}"


@fault(72, "raw sound on standard input ends in the middle of a frame; the writer is killed",
       "all whole frames are analysed; the rest is named; exit 65")  # fmt: skip
def pipe_cut(folder: Path) -> str:
    import subprocess

    x = (sound(40.0) * 2**15).astype("<i2").tobytes()[:-1]
    words = ("--source", "-", "--fs", str(FS), "--n-channels", "1", "--format", "s16le")
    settings = {"publish.wait_subscriber_s": 30.0}
    with Daemon(folder, settings, words=words, stdin=subprocess.PIPE) as daemon, Ear(daemon.endpoint) as ear:
        stdin = daemon.process.stdin
        assert stdin is not None
        stdin.write(x)
        stdin.close()
        code = daemon.wait(90)
        ear.await_end()
        account = ear.account()
    promise(code == 65, f"exit code {code}")
    return f"exit code 65, '{daemon.last_line[-70:]}'; {account}"


@fault(73, "recording cut off in the middle (FLAC, 2/3 of its bytes)", "what it holds is analysed, the rest named")
def file_cut(folder: Path) -> str:
    import soundfile

    whole = folder / "whole.flac"
    soundfile.write(whole, sound(40.0), FS)
    data = whole.read_bytes()
    (folder / "cut.flac").write_bytes(data[: len(data) * 2 // 3])
    with Daemon(folder, of_file(folder / "cut.flac"), words=("--once",)) as daemon, Ear(daemon.endpoint) as ear:
        code = daemon.wait(90)
        ear.await_end()
        account = ear.account()
    promise(code == 65 and account.n_slots > 5, f"exit code {code}, {account}")
    return f"exit code 65, '{daemon.last_line[-90:]}'; {account}"
