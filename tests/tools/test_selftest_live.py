"""A running daemon takes a self-test beside its real channels, which notice nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.cli import main
from daemon.config import Config
from daemon.requests import ask
from daemon.selftest.ask import ask_selftest
from daemon.selftest.live import LiveSelfTest
from daemon.service import Service
from daemon.wire import Message
from models.bundle import Bundle


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "tonald.toml"
    path.write_text(
        f'state_dir = "{tmp_path}"\n[source]\nmax_speed = true\n[publish]\nendpoints = ["ipc://{tmp_path}/out"]\n'
        "[selftest]\nlive = true\n"
    )
    return path


def test_what_is_put_in_comes_out_marked_and_the_real_channel_goes_on(settings: Path) -> None:
    config = Config.load(settings)
    real: list[Message] = []
    service = Service(config, real.append)
    service.start()
    try:
        outcome = ask_selftest(config)
        assert main(["selftest", "--live", "--config", str(settings)]) == 0  # and once more, as people do
    finally:
        service.stop()
    service.raise_failure()
    assert outcome.good, (outcome.problems, [v.problems for v in outcome.verdicts])
    assert [v.label for v in outcome.verdicts] == ["vessel_0", "vessel_1", "vessel_2", "vessel_3", ""]
    assert {v.n_windows for v in outcome.verdicts} == {12}
    slots = [m.body["grid_index"] for m in real if m.family == "window"]
    assert slots == list(range(len(slots)))
    assert len(slots) > 12
    assert not any(m.body["test"] for m in real)


def test_only_one_at_a_time(tmp_path: Path) -> None:
    bundle = Bundle.load(Bundle.shipped())
    live = LiveSelfTest(tmp_path, bundle, bundle.spec)
    live.start()
    try:
        answers = [ask(tmp_path, "", 30.0, "selftest.live") for _ in range(2)]  # nobody takes the first's sound
    finally:
        live.close()
    assert [str(a).partition(":")[0] for a in answers] == ["started", "busy"]


def test_it_is_off_unless_the_settings_say_so(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings.write_text(settings.read_text().replace("live = true", "live = false"))
    assert main(["selftest", "--live", "--config", str(settings)]) == 78
    assert "selftest.live is off" in capsys.readouterr().err
    settings.write_text("[selftest]\nlive = true\n")
    assert main(["selftest", "--live", "--config", str(settings)]) == 78
    assert "set state_dir" in capsys.readouterr().err


def test_nobody_there_is_said(
    settings: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.selftest.ask.ANSWER_S", 0.5)
    assert main(["selftest", "--live", "--config", str(settings)]) == 66
    assert "nobody publishes there" in capsys.readouterr().err
    assert main(["selftest", "--live"]) == 64
