"""The rule in force: gates from settings and measurement, said in words; mistakes named with key and line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calibration.false_alarms import FILE_NAME, FalseAlarmCurve, FalseAlarms
from calibration.false_alarms_bundle import put_into_bundle
from daemon import cli
from daemon.config import Config, ContactsConfig
from daemon.contact_gate import effective_rule, rule_of
from daemon.wire_schema import CONTACT_RULE, check
from models.bundle import Bundle
from models.errors import BundleError, ConfigError

X = Config().extract
GATES = tuple(0.25 * k for k in range(41))


def curve(kind: str, per_hour: float, decay: float = 1.0, hours: float = 200.0) -> FalseAlarmCurve:
    counts = tuple(round(hours * per_hour * math.exp(-decay * g)) for g in GATES)
    return FalseAlarmCurve(kind=kind, hours=hours, gates=GATES, counts=counts, recordings=counts)


def alarms(class_per_hour: float = 4.0, unknown_per_hour: float = 6.0, **changes: Any) -> FalseAlarms:
    values: dict[str, Any] = {
        "n_start": 3, "m": 5, "n_hold": 1, "hop_s": 1.0, "mode": X.mode, "line_snr_db": X.line_snr_db,
        "n_lines_unknown": X.n_lines_unknown, "data": "200 h of a test", "synthetic": True, "bundle": None,
        "curves": (curve("class", class_per_hour), curve("unknown", unknown_per_hour)),
    }  # fmt: skip
    return FalseAlarms(**{**values, **changes})


def a_bundle(tmp_path: Path, held: FalseAlarms | None = None) -> Any:
    """What `effective_rule` asks of a bundle."""
    files = {}
    if held is not None:
        data = held.to_json().encode()
        (tmp_path / FILE_NAME).write_bytes(data)
        files[FILE_NAME] = SimpleNamespace(sha256=hashlib.sha256(data).hexdigest())
    return SimpleNamespace(path=tmp_path, id="0123456789abcdef", manifest=SimpleNamespace(files=files))


def config(**contacts: Any) -> Config:
    return Config(contacts=ContactsConfig(**contacts))


def test_expected_starts_are_what_is_asked_half_of_them_of_classes(tmp_path: Path) -> None:
    rule = effective_rule(config(false_alarms_per_day=24.0), a_bundle(tmp_path, alarms()))
    assert rule.expected_per_day == pytest.approx(24.0)
    assert rule.classes.per_hour == pytest.approx(0.5)
    assert rule.rule.class_gate == pytest.approx(math.log(8.0), abs=0.05)
    assert rule.rule.unknown_gate == pytest.approx(math.log(12.0), abs=0.05)
    assert not rule.extrapolated


def test_what_classes_do_not_use_goes_to_unknown(tmp_path: Path) -> None:
    rule = effective_rule(config(false_alarms_per_day=24.0), a_bundle(tmp_path, alarms(class_per_hour=0.1)))
    assert rule.rule.class_gate == GATES[0]
    assert rule.unknown.per_hour == pytest.approx(0.9)
    assert rule.expected_per_day == pytest.approx(24.0)


def test_more_than_ever_start_needs_no_gate(tmp_path: Path) -> None:
    rule = effective_rule(config(false_alarms_per_day=1000.0), a_bundle(tmp_path, alarms()))
    assert (rule.rule.class_gate, rule.rule.unknown_gate) == (GATES[0], GATES[0])
    assert rule.expected_per_day == pytest.approx(240.0)


def test_zero_asks_for_no_gate_and_still_says_what_to_expect(tmp_path: Path) -> None:
    rule = effective_rule(config(false_alarms_per_day=0.0), a_bundle(tmp_path, alarms()))
    assert rule.expected_per_day == pytest.approx(240.0)
    assert rule.to_dict()["false_alarms_per_day"] is None


def test_rarer_than_measured_is_said_to_be_extrapolated(tmp_path: Path) -> None:
    rule = effective_rule(config(false_alarms_per_day=0.1), a_bundle(tmp_path, alarms()))
    assert rule.extrapolated
    assert rule.to_dict()["extrapolated"] is True
    assert "extrapolated beyond what was measured, along an exponential tail on 200 h of a test" in rule.words()[2]


def test_rarer_than_any_probability_can_be_is_a_mistake_that_names_the_key(tmp_path: Path) -> None:
    slow = alarms(curves=(curve("class", 4.0, decay=0.01), curve("unknown", 6.0)))
    with pytest.raises(ConfigError, match=r"^contacts\.false_alarms_per_day = 0\.5: "):
        effective_rule(config(false_alarms_per_day=0.5), a_bundle(tmp_path, slow))


def test_without_measurement_there_is_no_gate_and_it_is_said(tmp_path: Path) -> None:
    rule = effective_rule(config(), a_bundle(tmp_path))
    assert (rule.rule.class_gate, rule.rule.unknown_gate) == (-math.inf, -math.inf)
    assert rule.expected_per_day is None
    assert rule.words()[1:] == (
        "every detection and every signature of 'unknown' counts",
        "expected false contact starts: not measured, this bundle holds none for its contacts: "
        "'tonald experiments falsealarms --curve FILE' measures them",
    )


def test_measurement_of_another_rule_is_not_used(tmp_path: Path) -> None:
    rule = effective_rule(config(n_start=4), a_bundle(tmp_path, alarms()))
    assert rule.expected_per_day is None
    assert "those of the bundle are for contacts.n_start = 3" in rule.words()[2]


def test_file_goes_before_the_bundle_and_must_fit_it(tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    held = a_bundle(tmp_path, alarms())
    path.write_text(alarms(class_per_hour=0.1, bundle=held.id, data="the site").to_json())
    assert effective_rule(config(curve=str(path)), held).data == "the site"
    with pytest.raises(ConfigError, match=r"^contacts\.curve = .* was measured with contacts\.m = 5: "):
        effective_rule(config(curve=str(path), m=6), held)
    path.write_text(alarms(bundle="f" * 16).to_json())
    with pytest.raises(ConfigError, match=r"^contacts\.curve = .* was measured with bundle f{16}, in use is 0123"):
        effective_rule(config(curve=str(path)), held)


def test_bundle_that_changes_under_way_is_noticed(tmp_path: Path) -> None:
    held = a_bundle(tmp_path, alarms())
    (tmp_path / FILE_NAME).write_text(alarms(class_per_hour=0.1).to_json())
    with pytest.raises(BundleError, match="changed while it was read"):
        effective_rule(config(), held)


def test_words_state_the_rule_in_windows_and_seconds() -> None:
    words = rule_of(config(), alarms(), 24.0).words()[0]
    assert words == (
        "a contact starts when 3 of 5 windows in a row = 5 s hold its label, and ends when none of the last 5 does, "
        "when more than 5 s went unheard, or when the stream ends"
    )
    settings = dataclasses.replace(config(n_hold=2, m=8), window=dataclasses.replace(Config().window, hop_s=0.5))
    assert "3 of 8 windows in a row = 4 s" in rule_of(settings, alarms(), 24.0).words()[0]
    assert "fewer than 2 of the last 8 do" in rule_of(settings, alarms(), 24.0).words()[0]


@pytest.mark.parametrize("asked", [None, 24.0, 0.1])
def test_record_of_info_keeps_to_the_wire(asked: float | None, tmp_path: Path) -> None:
    check(CONTACT_RULE, rule_of(config(), alarms(), asked).to_dict(), "info/")
    check(CONTACT_RULE, effective_rule(config(), a_bundle(tmp_path)).to_dict(), "info/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[contacts]\nn_start = 6", r"t\.toml:2: contacts\.n_start = 6 is not in 1\.\.contacts\.m = 5"),
        ("[contacts]\nm = 0", r"t\.toml:2: contacts\.m = 0 is not in 1\.\.1000"),
        ("[contacts]\n\nn_hold = 4", r"t\.toml:3: contacts\.n_hold = 4 is not in 1\.\.contacts\.n_start = 3"),
        ("[contacts]\nfalse_alarms_per_day = -1", r"t\.toml:2: contacts\.false_alarms_per_day = -1\.0"),
        ("[contacts]\nfalse_alarms_per_day = inf", r"t\.toml:2: contacts\.false_alarms_per_day = inf"),
        ("[contacts]\nfalse_alarm_per_day = 1", "t.toml:2: unknown key .*; nearest is 'false_alarms_per_day'"),
        ("[contacts]\nm = 5.0", r"t\.toml:2: contacts\.m = 5\.0 is not a whole number"),
    ],
)
def test_mistake_in_the_settings_is_named_with_key_and_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.parse(text, "t.toml")


def test_config_check_states_rule_gates_and_false_alarms(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "site.json").write_text(alarms().to_json())
    path = tmp_path / "t.toml"
    path.write_text(f"[contacts]\nfalse_alarms_per_day = 12\ncurve = {json.dumps(str(tmp_path / 'site.json'))}\n")
    assert cli.main(["config", "--check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "  contacts   a contact starts when 3 of 5 windows in a row = 5 s" in out
    assert "expected false contact starts: 12 per day and channel of source-free sea (asked for: at most 12)" in out
    assert "measured on 200 h of a test" in out


def test_config_check_finds_a_hop_the_bundle_does_not_allow(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "t.toml"
    path.write_text("[window]\nhop_s = 3.0\n")
    assert cli.main(["config", "--check", str(path)]) == 78
    assert "hop_s = 3.0: this bundle allows" in capsys.readouterr().err


def test_bundle_with_the_curve_is_the_same_but_for_it_and_uses_it(tmp_path: Path) -> None:
    shipped = Bundle.load(Bundle.shipped())
    made = put_into_bundle(shipped, alarms(bundle=shipped.id), tmp_path / "made")
    assert made.id != shipped.id
    for name, info in shipped.manifest.files.items():
        if name != FILE_NAME:
            assert made.manifest.files[name] == info
    rule = effective_rule(config(false_alarms_per_day=24.0), made)
    assert rule.expected_per_day == pytest.approx(24.0)
    with pytest.raises(BundleError, match="exists already"):
        put_into_bundle(shipped, alarms(), tmp_path / "made")
    again = put_into_bundle(made, alarms(class_per_hour=0.1), tmp_path / "made", force=True)
    assert effective_rule(config(), again).classes.per_hour == pytest.approx(0.1)


def test_curve_of_another_bundle_is_not_put_in(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="was measured with bundle f"):
        put_into_bundle(Bundle.load(Bundle.shipped()), alarms(bundle="f" * 16), tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_classes_that_never_started_a_contact_leave_half_to_unknown(tmp_path: Path) -> None:
    silent = alarms(curves=(curve("class", 0.0, hours=20.0), curve("unknown", 6.0)))
    rule = effective_rule(config(false_alarms_per_day=2.4), a_bundle(tmp_path, silent))
    assert rule.classes.per_hour == pytest.approx(0.15)
    assert rule.unknown.per_hour == pytest.approx(0.05)
    assert rule.extrapolated
    assert "(asked for: at most 2.4)" in rule.words()[2]
    assert rule.expected_per_day == pytest.approx(4.8)
