"""The self-test passes on a chain that works, and fails, saying why, on one that does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from daemon.cli import main
from daemon.config import Config
from daemon.selftest.judge import Judge
from daemon.selftest.run import channels_of, private, run_selftest
from daemon.selftest.signal import injections
from daemon.selftest.source import InjectedSource
from daemon.service import Service
from daemon.subscriber import Subscriber
from daemon.wire import Message
from models.bundle import Bundle

FS = 8000


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(Bundle.shipped())


@pytest.fixture(scope="module")
def heard(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[Message]:
    """All that a subscriber hears of a self-test of one class on two channels."""
    config = private(Config.parse("[source]\nn_channels = 2\n"), str(tmp_path_factory.mktemp("out")))
    put_in = injections(bundle, bundle.spec, FS, 20.0, "vessel_1", n_channels=2)
    source = InjectedSource(put_in, FS, ("ch0", "ch1"))
    service = Service(config, source=source, test=True)
    service.start()
    messages = []
    with Subscriber(config.publish.endpoints[0]) as subscriber:
        while (message := subscriber.receive(60.0)) is not None:
            messages.append(message)
            if message.family == "status" and message.body["final"] and message.body["channel"] == "ch1":
                break
    service.stop()
    service.raise_failure()
    return messages


def judged(bundle: Bundle, messages: list[Message]) -> Judge:
    judge = Judge(injections(bundle, bundle.spec, FS, 20.0, "vessel_1"), bundle.spec, FS, ("ch0", "ch1"))
    for message in messages:
        judge.hear(message)
    return judge


def test_command_passes_on_the_shipped_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tonald.toml"
    path.write_text("[source]\nfs = 48000\nchannels = [1, 3]\n")
    assert main(["selftest", "--config", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "48000 Hz" in lines[0]
    assert [line.split()[:3] for line in lines[1:-1:2]] == [
        *(["ok", "ch1:", f"vessel_{k}"] for k in range(4)), ["ok", "ch1:", "noise"],
    ]  # fmt: skip
    assert lines[-1] == "self-test passed: what went in came out"


def test_every_record_says_test_and_whole_outcome_is_good(bundle: Bundle, heard: list[Message]) -> None:
    assert {m.family for m in heard} >= {"window", "signature", "contact", "status"}
    assert all(m.body["test"] is True for m in heard)
    judge = judged(bundle, heard)
    assert judge.ended
    assert [v.problems for v in judge.verdicts()] == [()] * 4
    assert all(v.worst_hz < 0.5 for v in judge.verdicts())


def test_a_window_that_does_not_come_is_missed(bundle: Bundle, heard: list[Message]) -> None:
    lost = next(m for m in heard if m.family == "window" and m.body["channel"] == "ch1")
    verdicts = judged(bundle, [m for m in heard if m is not lost]).verdicts()
    assert [bool(v.problems) for v in verdicts] == [False, True, False, False]
    assert verdicts[1].problems == ("11 of 12 windows came out",)


def test_a_signature_of_another_label_or_other_lines_fails(bundle: Bundle, heard: list[Message]) -> None:
    def altered(**new: object) -> list[Message]:
        return [
            dataclasses.replace(m, body={**m.body, **new}) if m.family == "signature" and m.body["epoch"] == 0 else m
            for m in heard
        ]

    for verdict in judged(bundle, altered(label="vessel_2")).verdicts()[:2]:
        assert "vessel_1 was named in 0 of 12 windows: {'vessel_2': 12} was" in verdict.problems
    for verdict in judged(bundle, altered(lines=[])).verdicts()[:2]:
        assert verdict.problems == ("0 of 8 tonals are in its signatures",)


def test_noise_that_is_named_fails(bundle: Bundle, heard: list[Message]) -> None:
    more = [dataclasses.replace(m, body={**m.body, "epoch": 1}) for m in heard if m.family == "signature"]
    assert all("noise alone was named" in v.problems[0] for v in judged(bundle, [*heard, *more]).verdicts()[2:])


def test_a_record_without_the_mark_is_counted(bundle: Bundle, heard: list[Message]) -> None:
    plain = [dataclasses.replace(m, body={**m.body, "test": False}) for m in heard]
    assert judged(bundle, plain).n_unmarked == len([m for m in heard if m.body.get("source") == "selftest"])


def test_a_gate_that_lets_nothing_start_fails_and_says_so() -> None:
    config = Config.parse("[contacts]\nn_start = 900\nm = 1000\n")
    outcome = run_selftest(config, label="vessel_0")
    assert not outcome.good
    assert [v.problems for v in outcome.verdicts] == [("no contact started: see contacts.false_alarms_per_day",), ()]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--label", "dragon"], 64, "no line template of 'dragon'"),
        (["--seconds", "3"], 64, "hold no window"),
        (["--fs", "0"], 64, "give the sample rate"),
        (["--fs", "1000"], 65, "1000"),
        (["--bundle", "/nonexistent"], 79, "nonexistent"),
    ],
)
def test_what_cannot_be_tested_ends_with_its_code(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["selftest", *words]) == code
    assert said in capsys.readouterr().err


def test_channels_are_those_of_the_settings_and_tones_stand_out(bundle: Bundle) -> None:
    assert channels_of(Config.parse("[source]\nchannels = [2, 0]\n")) == ("ch2", "ch0")
    assert channels_of(Config.parse("[source]\nn_channels = 3\n")) == ("ch0", "ch1", "ch2")
    for put_in in injections(bundle, bundle.spec, FS, 20.0):
        power = np.abs(np.fft.rfft(put_in.x[0])) ** 2
        for f in put_in.freq_hz:
            at = round(f * 20.0)
            assert power[at - 1 : at + 2].max() > 100 * np.median(power)
