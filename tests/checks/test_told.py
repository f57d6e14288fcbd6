"""What subscribers and operators get of the checks: fields that keep to the contract, lines that are read."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgpack
import numpy as np
import pytest

from daemon.commands.run import _printer
from daemon.config import ChecksConfig, Config
from daemon.frames import Health, SourceState, StreamStart
from daemon.records import Recorder
from daemon.view import format_line
from daemon.wire import Identity, Message, decode, encode, sequence_frame
from models.errors import ConfigError
from models.features import FeatureSpec

SCHEMA = Path(__file__).parents[2] / "docs" / "wire" / "schema" / "status.json"
SICK = (("clipped", "bad"), ("hum", "suspect"))


def health(quality: tuple = SICK, level_db: float = -31.5, alike_to: str | None = "ch1") -> Health:
    return Health("s", "ch0", 0, 2000, 4000, 2000, quality, level_db, 1.0, 0.0, 0.5, 8, 0, 18.5, 0.5, alike_to)


@pytest.fixture
def recorder() -> Recorder:
    r = Recorder(Identity("n", "p", None), FeatureSpec(), ("a",))
    list(r.process(StreamStart("s", 0, 2000, ("ch0", "ch1"), "tug.flac")))
    return r


def sent(recorder: Recorder, record: Health | SourceState | StreamStart) -> list[Message]:
    """As a subscriber gets them."""
    packed = [encode(m) for m in recorder.process(record)]
    for frames in packed:
        jsonschema.validate(msgpack.unpackb(frames[1]), json.loads(SCHEMA.read_text()))
    return [decode([*frames, sequence_frame(0)])[0] for frames in packed]


def test_status_carries_the_checks_and_what_was_measured(recorder: Recorder) -> None:
    (message,) = sent(recorder, health())
    assert message.topic == "status/ch0/"
    assert (message.body["first_sample"], message.body["n_samples"]) == (0, None)  # the span is that of the stream
    assert message.body["quality"] == {
        "state": "bad",
        "checks": [{"check": "clipped", "state": "bad"}, {"check": "hum", "state": "suspect"}],
        "first_sample": 4000, "level_db_re_fs": -31.5, "peak": 1.0, "dc": 0.0, "clipped_share": 0.5, "n_bits": 16,
        "n_stuck_bits": 0, "hum_db": 18.5, "alike": 0.5, "alike_to": "ch1",
    }  # fmt: skip


def test_later_status_repeats_them_and_a_new_stream_begins_without(recorder: Recorder) -> None:
    sent(recorder, health())
    waiting = {m.topic: m.body["quality"] for m in sent(recorder, SourceState("s", "waiting", "gone", 1))}
    assert waiting["status/ch0/"]["state"] == "bad"
    assert waiting["status/ch1/"] is None
    again = sent(recorder, StreamStart("s", 1, 2000, ("ch0", "ch1")))
    assert [m.body["quality"] for m in again] == [None, None]


def test_flat_line_has_no_level_and_one_channel_no_other(recorder: Recorder) -> None:
    (message,) = sent(recorder, health((("dead", "suspect"),), -np.inf, None))
    assert message.body["quality"]["level_db_re_fs"] is None
    assert message.body["quality"]["alike_to"] is None


def test_people_read_what_is_wrong_and_read_it_once(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    show = _printer(all_windows=False, silent_windows=False)
    for record in (health(()), health(), health(), health(level_db=-30.0), health(())):
        for message in recorder.process(record):
            show(message)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("tug.flac")[2] for line in lines] == ["", "  clipped (bad)  hum (suspect)", ""]
    (message,) = recorder.process(health())
    assert format_line(message).endswith("clipped (bad)  hum (suspect)")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("suspect_s = 0", "suspect_s = 0: give 1 up to"),
        ("suspect_s = 20", "checks.bad_s = 10"),
        ("clipped_share = 0.0", "is not above 0"),
        ("dc = 1.5", "at most 1"),
        ("hum_db = -1.0", "is not positive"),
        ("identical = 1.1", "is not in 0.5..1"),
        ("level_min_db_re_fs = 0.0", "is not below"),
    ],
)
def test_limit_that_makes_no_sense_is_refused_by_name(settings: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"x:\d: checks\..*{says}"):
        Config.parse(f"[checks]\n{settings}\n", "x")


def test_checks_can_be_turned_off() -> None:
    assert not Config.parse("[checks]\nenabled = false\n").checks.enabled
    assert ChecksConfig().enabled
