"""Faults of the sound card and its child process, on a real JACK server through PortAudio."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil

from tests.faults.card import CARD, hydrophone, jack_env, stop_all
from tests.faults.catalogue import NotRun, fault, promise
from tests.faults.vessel import Daemon, gone, wait_for
from tests.jack_server import FS

NOTICED_S, REPLACED_S = 2.0, 5.0


def _state(state: str, word: str = ""):  # noqa: ANN202
    return lambda b: b["state"] == state and word in b["detail"]


def _dies_and_returns(folder: Path, how: int, *, wait_s: float = 2.0) -> str:
    """The sound server ends in some way and is started again."""
    with hydrophone(folder) as (server, daemon, ear):
        child = daemon.child().pid
        server.server.send_signal(how)
        began = time.monotonic()
        (waiting, *_) = ear.await_some("status", state="waiting", timeout_s=20)
        noticed_s = time.monotonic() - began
        time.sleep(wait_s)
        server.down()
        server.up()
        began = time.monotonic()
        ear.await_some("status", state="running", epoch=1, timeout_s=40)
        back_s = time.monotonic() - began
        ear.await_some("window", epoch=1, test=lambda b: b["analysed"])
        promise(gone(child), "the old capture process is still there")
        code = stop_all(server, ear, daemon)
        account = ear.account()
        (gap, *_) = [g for g in account.gaps if g["channel"] == "ch0"]
    promise(code == 0, f"exit code {code}")
    promise(noticed_s <= NOTICED_S + 1.0, f"noticed only after {noticed_s:.1f} s")
    promise(back_s <= 2 * REPLACED_S, f"capture resumed only {back_s:.1f} s after the server was back")
    return (
        f"noticed after {noticed_s:.1f} s ({waiting['detail']}), child killed, capture resumed {back_s:.1f} s after "
        f"the server was back, gap of {gap['duration_ns'] / 1e9:.1f} ± {gap['err_ns'] / 1e9:.1f} s told; {account}"
    )


@fault(1, "card unplugged while capturing (jackd terminated and started again, twice)",
       "noticed in 2 s, child killed, status waiting, retried with back-off, new epoch and gap on return")  # fmt: skip
def unplugged(folder: Path) -> str:
    with hydrophone(folder) as (server, daemon, ear):
        for n in (1, 2):
            server.down()
            ear.await_some("status", state="waiting", epoch=n - 1, timeout_s=20)
            retries = ear.await_some("status", 2, state="waiting", timeout_s=30, test=lambda b: b["n_retries"] >= 2)
            server.up()
            ear.await_some("window", epoch=n, test=lambda b: b["analysed"])
        stop_all(server, ear, daemon)
        account = ear.account()
        n_gaps = sum(g["n_samples"] is None and g["channel"] == "ch0" for g in account.gaps)
        promise(account.n_epochs == 3 and n_gaps == 2, f"{account.n_epochs} epochs, {n_gaps} gaps between")
    return f"2 losses told by waiting and gap, up to {max(b['n_retries'] for b in retries)} retries; {account}"


@fault(2, "card absent at the start", "serves with status waiting, keeps trying, takes the card when it comes")
def absent(folder: Path) -> str:
    with hydrophone(folder, windows=0, up=False) as (server, daemon, ear):
        ear.await_some("status", state="waiting", timeout_s=60)
        n = len(ear.await_some("status", 3, state="waiting", timeout_s=60))
        server.up()
        ear.await_some("window", timeout_s=90, test=lambda b: b["analysed"])
        stop_all(server, ear, daemon)
        account = ear.account()
    return f"READY without a card, {n} tries told, capture began when the server came; {account}"


@fault(3, "sound server killed (SIGKILL of jackd)", "noticed in 2 s, child replaced, never a silent join")
def server_killed(folder: Path) -> str:
    return _dies_and_returns(folder, signal.SIGKILL)


@fault(4, "sound server frozen (SIGSTOP of jackd)", "noticed by the age of blocks; the gap is counted")
def server_frozen(folder: Path) -> str:
    return _dies_and_returns(folder, signal.SIGSTOP)


@fault(5, "sound server comes back at another rate (44100 instead of 48000 Hz)",
       "refused while it runs at that rate, told; taken at its own rate; nothing resampled by surprise")  # fmt: skip
def other_rate(folder: Path) -> str:
    import tests.jack_server as jack_server

    with hydrophone(folder) as (server, daemon, ear):
        server.down()
        jack_server.FS = 44_100
        try:
            server.up()
        finally:
            jack_server.FS = FS
        (told, *_) = ear.await_some("status", state="refused", timeout_s=40, test=_state("refused", "44100"))
        promise(not ear.of("window", epoch=1), "windows were made of sound at another rate")
        server.down()
        server.up()
        ear.await_some("window", epoch=1, test=lambda b: b["analysed"])
        stop_all(server, ear, daemon)
        account = ear.account()
        promise({w["fs"] for w in ear.of("window")} == {FS}, "records at another rate")
    return f"refused: {told['detail'][:120]}; then taken at {FS} Hz; {account}"


@fault(6, "hydrophone unlinked: zeros from a card that runs (player killed, its port no longer linked)",
       "told as a lost source within 10 s; no detections from it")  # fmt: skip
def zeros(folder: Path) -> str:
    with hydrophone(folder) as (server, daemon, ear):
        server._end(server.player)
        began = time.monotonic()
        said = ear.await_some("status", timeout_s=30, test=lambda b: "zero" in b["detail"] or b["state"] == "waiting")
        told_s = time.monotonic() - began
        n = len(ear.of("signature"))
        time.sleep(3)
        promise(len(ear.of("signature")) == n, "signatures from zeros")
        stop_all(server, ear, daemon)
        account = ear.account()
    return f"told after {told_s:.1f} s: {said[-1]['state']}, {said[-1]['detail'][:100]}; {account}"


@fault(13, "exception in the capture process's callback", "its words in the log, child replaced")
def callback_raises(folder: Path) -> str:
    trigger = folder / "raise"
    command = (sys.executable, "-m", "tests.faults.sabotage", "callback", str(trigger))
    with hydrophone(folder, command=command) as (server, daemon, ear):
        first = daemon.children()[0].pid
        trigger.touch()
        (waiting, *_) = ear.await_some("status", state="waiting", timeout_s=20)
        ear.await_some("window", epoch=1, test=lambda b: b["analysed"])
        promise(gone(first), "the old child is still there")
        promise("the callback was broken on purpose" in daemon.log, "the log does not say why")
        stop_all(server, ear, daemon)
        account = ear.account()
    return f"{waiting['detail'][:100]}; its traceback in the log; {account}"


@fault(14, "segmentation fault in the sound library (SIGSEGV in the child)", "only the child dies; replaced in 5 s")
def segfault(folder: Path) -> str:
    return _child_ends(folder, signal.SIGSEGV)


@fault(15, "capture process deadlocked (SIGSTOP of the child)", "no blocks for 1.5 s: SIGKILL, another in 5 s")
def child_stopped(folder: Path) -> str:
    return _child_ends(folder, signal.SIGSTOP)


def _child_ends(folder: Path, how: int) -> str:
    with hydrophone(folder) as (server, daemon, ear):
        first = daemon.child().pid
        os.kill(first, how)
        began = time.monotonic()
        (waiting, *_) = ear.await_some("status", state="waiting", timeout_s=20)
        noticed_s = time.monotonic() - began
        ear.await_some("status", state="running", epoch=1, timeout_s=40)
        replaced_s = time.monotonic() - began
        ear.await_some("window", epoch=1, test=lambda b: b["analysed"])
        promise(daemon.child().pid != first and gone(first), "the old child is still there")
        stop_all(server, ear, daemon)
        account = ear.account()
    promise(noticed_s <= NOTICED_S + 1.0, f"noticed only after {noticed_s:.1f} s")
    promise(replaced_s <= 2 * REPLACED_S, f"replaced only after {replaced_s:.1f} s")
    return f"noticed after {noticed_s:.1f} s ({waiting['detail'][:80]}), replaced after {replaced_s:.1f} s; {account}"


@fault(
    16, "daemon killed (SIGKILL) while its child holds the card", "the child is gone at once; the card is free again"
)
def parent_killed(folder: Path) -> str:
    with hydrophone(folder) as (server, daemon, _ear):
        child = daemon.child().pid
        daemon.process.kill()
        began = time.monotonic()
        wait_for(lambda: gone(child), 5.0, "the end of the orphan")
        gone_s = time.monotonic() - began
        daemon.process.wait()
        with Daemon(folder, CARD, env=jack_env(server), name="second") as second:  # fmt: skip
            second.ready()
            wait_for(lambda: psutil.pid_exists(second.child().pid), 10, "a second capture")
    return f"orphan gone after {gone_s * 1e3:.0f} ms, a second daemon took the card at once"


@fault(12, "capture ring overflows: daemon away for 14 s (SIGSTOP of the daemon alone, the child runs on)",
       "exact count of lost samples as a gap within the epoch; slots without a hole are analysed")  # fmt: skip
def ring_overflows(folder: Path) -> str:
    with hydrophone(folder, windows=4) as (server, daemon, ear):
        daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(14)
        daemon.process.send_signal(signal.SIGCONT)
        gaps = ear.await_some("gap", timeout_s=30)
        ear.await_some("window", timeout_s=60, test=lambda b: b["analysed"] and b["first_sample"] > (
            gaps[0]["first_sample"] + (gaps[0]["n_samples"] or 0)))  # fmt: skip
        stop_all(server, ear, daemon)
        account = ear.account()
    (gap, *_) = [g for g in account.gaps if g["channel"] == "ch0"]
    promise(account.n_epochs == 1, f"{account.n_epochs} epochs")
    promise(gap["n_samples"] is not None, "the gap's length is not exact")
    return f"gap of exactly {gap['n_samples']} samples ({gap['n_samples'] / FS:.1f} s): {gap['reason']}; {account}"


@fault(43, "callback stalled for 1 s (SIGSTOP and SIGCONT of the child): the card overflows",
       "loss told by the clock or the card's flag: gap and new epoch, never a silent join")  # fmt: skip
def callback_stalled(folder: Path) -> str:
    with hydrophone(folder, windows=2) as (server, daemon, ear):
        child = daemon.child()
        child.suspend()
        time.sleep(1.0)
        child.resume()
        ear.await_some("gap", timeout_s=30)
        ear.await_some("window", epoch=1, test=lambda b: b["analysed"])
        stop_all(server, ear, daemon)
        account = ear.account()
    (gap, *_) = [g for g in account.gaps if g["channel"] == "ch0"]
    lost_s, err_s = gap["duration_ns"] / 1e9, gap["err_ns"] / 1e9
    promise(lost_s + err_s >= 1.0, f"gap of {lost_s:.2f} ± {err_s:.2f} s for a stall of 1 s")
    return f"gap of {lost_s:.2f} ± {err_s:.2f} s told ({gap['reason']}); {account}"


@fault(44, "a USB card re-enumerates under another number", "found again by name or USB id")
def renumbered(_folder: Path) -> str:
    raise NotRun(
        "no USB bus here; nearest run: 1 and 3, the device is chosen by name from a device list made anew by each child"
    )
