from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daemon.capture.audit import ClockAudit, Finding
from daemon.capture.devices import CaptureRefused, InputDevice, choose
from daemon.capture.process import CaptureProcess
from daemon.capture.request import Ready, Refusal, Request, parse_answer

DEVICES = [
    InputDevice(0, "UMC404HD 192k: USB Audio (hw:1,0)", "ALSA", 4, 48_000.0),
    InputDevice(2, "UMC404HD 192k: USB Audio (hw:2,0)", "ALSA", 4, 48_000.0),
    InputDevice(3, "hydro", "ALSA", 2, 48_000.0),
    InputDevice(5, "hydro array", "JACK Audio Connection Kit", 8, 96_000.0),
    InputDevice(6, "default", "ALSA", 2, 44_100.0),
]


@pytest.mark.parametrize(
    ("pattern", "index"),
    [("hydro", 3), ("HYDRO", 3), ("array", 5), ("hw:2,0", 2), ("jack", 5), (r"umc404.*hw:1", 0), ("default", 6)],
)
def test_choose_by_pattern_takes_the_one_that_is_meant(pattern: str, index: int) -> None:
    assert choose(DEVICES, pattern).index == index


def test_choose_without_match_lists_what_there_is_and_never_takes_the_default() -> None:
    with pytest.raises(CaptureRefused, match=r"no input device matches 'dat'.*UMC404HD.*hydro array") as e:
        choose(DEVICES, "dat")
    assert e.value.absent
    with pytest.raises(CaptureRefused, match="there is none"):
        choose([], "hydro")
    with pytest.raises(CaptureRefused, match="no input device"):
        choose(DEVICES, "[")  # no regular expression either


def test_choose_with_several_matches_lists_them() -> None:
    with pytest.raises(CaptureRefused, match=r"means 2 input devices.*hw:1,0.*hw:2,0") as e:
        choose(DEVICES, "UMC")
    assert not e.value.absent


def test_request_and_answers_survive_json() -> None:
    import dataclasses
    import json

    for request in (Request("a", 48_000, (3, 1)), Request("b")):
        assert Request.from_json(request.to_json()) == request
    for answer in (Ready("a", 48_000, (0,), 0.1), Refusal("no", absent=True)):
        assert parse_answer(json.dumps(dataclasses.asdict(answer))) == answer


def findings(audit: ClockAudit, events: list[tuple[int, float]]) -> list[Finding]:
    return [f for n, t in events if (f := audit.add(n, round(t * 1e9)))]


def blocks(seconds: float, fs: float, *, lost_at: float = 1e9, lost: int = 0, jitter_s: float = 0.0) -> list:
    """Blocks of 1024 samples, each late by an exponential jitter; ``lost`` samples never come after ``lost_at``."""
    rng = np.random.default_rng(0)
    n, out = 0, []
    while n / fs < seconds:
        n += 1024
        out.append((n - (lost if n / fs > lost_at else 0), n / fs + rng.exponential(jitter_s) if jitter_s else n / fs))
    return out


def test_audit_of_a_good_card_on_a_busy_machine_finds_no_loss() -> None:
    found = findings(ClockAudit(48_000), blocks(60, 48_000 * 1.0001, jitter_s=0.05))
    assert len(found) >= 12
    assert all(f.lost_s == 0 for f in found)
    # a span of 4 s with 0.05 s of mean jitter at both ends: 0.5 s off at most in 60 draws is 12 %; e^-10 to exceed it
    assert all(abs(f.fs / 48_000 - 1) < 0.125 for f in found)


def test_audit_notices_one_lost_period_without_any_flag() -> None:
    found = findings(ClockAudit(48_000), blocks(40, 48_000, lost_at=20, lost=1024, jitter_s=0.005))
    lost = [f.lost_s for f in found if f.lost_s]
    # 1024 samples; the least of 190 exponential draws of 5 ms is below 1 ms but for e^-38
    assert len(lost) == 1
    assert abs(lost[0] - 1024 / 48_000) < 0.001


def test_audit_of_a_wrong_rate_tells_the_rate() -> None:
    found = findings(ClockAudit(48_000), blocks(20, 44_100))
    assert all(abs(f.fs - 44_100) < 1 for f in found)


def n_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_capture_process_that_cannot_be_started_holds_nothing() -> None:
    before = n_open_files()
    for _ in range(5):
        with pytest.raises(OSError, match="no-such-program"):
            CaptureProcess(Request("hydro", 48_000, None, 0.5, 10.0, 0.0), ["/no-such-program"])
    assert n_open_files() == before
