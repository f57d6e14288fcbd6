"""Log lines as journald, a terminal and a collector read them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import logging, sys
from daemon.log_lines import start_logging
start_logging(sys.argv[1], sys.argv[2])
log = logging.getLogger("tonald.test")
log.debug("deep"); log.info("süß\\nsecond line"); log.warning("%s of %d", "3", 4)
try:
    raise ValueError("torn")
except ValueError:
    log.exception("failed")
log.critical("over")
"""


def lines(level: str, form: str, *, journal: bool = False) -> list[str]:
    """What a process of its own writes; with ``journal`` its standard error is what $JOURNAL_STREAM names."""
    r, w = os.pipe()
    s = os.fstat(w)
    env = {k: v for k, v in os.environ.items() if k != "JOURNAL_STREAM"} | {"PYTHONIOENCODING": "utf-8"}
    if journal:
        env["JOURNAL_STREAM"] = f"{s.st_dev}:{s.st_ino}"
    with os.fdopen(r, encoding="utf-8") as out:
        with subprocess.Popen([sys.executable, "-c", SCRIPT, level, form], cwd=ROOT, env=env, stderr=w) as p:
            os.close(w)
            text = out.read()
        assert p.returncode == 0
    return text.splitlines()


def test_journald_gets_a_priority_in_front_of_every_line() -> None:
    got = lines("debug", "auto", journal=True)
    assert got[:4] == ["<7>deep", "<6>süß", "<6>second line", "<4>3 of 4"]
    assert got[4] == "<3>failed"
    assert all(line.startswith("<3>") for line in got[4:-1])
    assert "<3>ValueError: torn" in got
    assert got[-1] == "<2>over"


def test_a_terminal_gets_the_time_and_no_priority() -> None:
    got = lines("info", "auto")
    assert got[0].endswith(" INFO süß")
    assert not any(line.startswith("<") for line in got)
    assert lines("info", "plain", journal=True)[0].endswith(" INFO süß")


def test_a_collector_gets_one_object_per_record() -> None:
    got = [json.loads(line) for line in lines("info", "json")]
    assert [g["level"] for g in got] == ["info", "warning", "error", "critical"]
    assert got[0]["text"] == "süß\nsecond line"
    assert [g["priority"] for g in got] == [6, 4, 3, 2]
    assert "ValueError: torn" in got[2]["error"]
    assert got[1]["t"].endswith("Z")


@pytest.mark.parametrize("stream", ["", "nonsense", "1:2:3", "٣:٤", "99999999:1"])
def test_a_journal_stream_that_is_not_ours_is_none(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from daemon.log_lines import journal_listens

    monkeypatch.setenv("JOURNAL_STREAM", stream)
    assert not journal_listens()
