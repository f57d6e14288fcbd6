"""Each thing that keeps a daemon from working is found, named and given a cure; a good machine passes."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.config import Config
from daemon.doctor.examine import examine
from daemon.doctor.finding import Finding, run_check, worst
from daemon.doctor.machine import budget_mb, check_disk
from daemon.doctor.network import check_endpoints, check_keys
from daemon.doctor.service_unit import check_unit, find_unit
from daemon.doctor.software import check_bundle
from daemon.doctor.sound import check_source
from daemon.publisher import Publisher
from daemon.wire import Identity
from models.bundle import Bundle
from models.errors import ConfigError
from tests.keyed_vessel import Vessel

ROOT = Path(__file__).resolve().parents[2]


def config(text: str) -> Config:
    return Config.parse(text)


def found(findings: list[Finding], check: str) -> list[tuple[str, str]]:
    return [(f.status, f.what) for f in findings if f.check == check]


def test_whole_examination_of_a_good_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tonald.toml"
    path.write_text(f'state_dir = "{tmp_path}"\n[publish]\nendpoints = ["ipc://{tmp_path}/out"]\n')
    assert main(["doctor", "--config", str(path), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["check"] for line in lines} >= {
        "python", "clock", "memory", "unit", "config", "source", "bundle", "engine", "keys", "endpoint", "state",
        "disk", "limits",
    }  # fmt: skip
    assert all(line["cure"] for line in lines if line["status"] != "ok")
    assert any("golden outputs within" in line["what"] and "<- serves" in line["what"] for line in lines)
    assert sum("<- serves" in line["what"] for line in lines) == 1


def test_a_bad_configuration_is_named_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tonald.toml"
    path.write_text("[forensic]\nmax_mb = -1\n")
    assert main(["doctor", "--config", str(path)]) == 1
    out = capsys.readouterr().out
    assert f"{path}:2: forensic.max_mb = -1" in out
    assert out.splitlines()[-1].startswith("not ready")


def test_damaged_bundle_fails_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(Bundle.shipped(), bundle)
    masks = bundle / "class_masks.npz"
    data = bytearray(masks.read_bytes())
    data[-1] ^= 1
    masks.write_bytes(data)
    path = tmp_path / "tonald.toml"
    path.write_text(f'bundle = "{bundle}"\n[publish]\nendpoints = ["ipc://{tmp_path}/out"]\n')
    findings = list(examine(path))
    ((status, what),) = found(findings, "bundle")
    assert status == "fail"
    assert "class_masks.npz" in what
    assert found(findings, "engine")[0][0] == "fail"
    assert found(findings, "endpoint") == [("ok", f"ipc://{tmp_path}/out is free")]
    assert worst(findings) == "fail"


def test_port_taken_by_another_program_fails_and_by_tonald_is_said(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (finding,) = check_endpoints(config(f'[publish]\nendpoints = ["tcp://127.0.0.1:{port}"]'))
        assert finding.status == "fail"
        assert "in use by another program" in finding.what
    identity = Identity.new("vessel-7", "0123456789abcdef")
    with Publisher(identity, ["tcp://127.0.0.1:*", f"ipc://{tmp_path}/out"], heartbeat_s=0.1) as publisher:
        listed = ", ".join(f'"{e}"' for e in publisher.endpoints)
        for finding in check_endpoints(config(f"[publish]\nendpoints = [{listed}]")):
            assert finding.status == "ok"
            assert "vessel-7" in finding.what
    (finding,) = check_endpoints(config(f'[publish]\nendpoints = ["ipc://{tmp_path}/none/out"]'))
    assert finding.status == "fail"
    assert "none does not exist" in finding.what


def test_keys_that_lie_open_fail_and_an_empty_list_warns(tmp_path: Path) -> None:
    vessel = Vessel(tmp_path)
    text = f'[publish]\nserver_key = "{tmp_path}/server.key"\nallowed_keys = "{vessel.allowed}"\n'
    assert [f.status for f in check_keys(config(text))] == ["ok", "warn"]
    vessel.client("bridge")
    good = list(check_keys(config(text)))
    assert [f.status for f in good] == ["ok", "ok"]
    assert "bridge" in good[1].what
    (tmp_path / "server.key").chmod(0o644)
    (finding,) = run_check("keys", lambda: check_keys(config(text)))
    assert finding.status == "fail"
    assert "chmod 600" in finding.what


def test_budgets_that_the_disk_cannot_hold_fail(tmp_path: Path) -> None:
    text = f'state_dir = "{tmp_path}"\n[forensic]\nmax_mb = 900000000\nfrozen_mb = 7\nreserve_mb = 5\n'
    assert budget_mb(config(text))["forensic.max_mb"] == 900_000_000
    disk = [f for f in check_disk(config(text)) if f.check == "disk"]
    assert [f.status for f in disk] == ["fail"]
    assert "forensic.max_mb 900000000" in disk[0].what
    (finding,) = check_disk(config(f'state_dir = "{tmp_path}/none"'))
    assert finding.status == "fail"
    with pytest.raises(ConfigError, match="set state_dir"):
        config("[forensic]\nmax_mb = 1\n")


def test_card_that_is_not_there_fails_with_what_portaudio_sees() -> None:
    findings = list(check_source(config('[source]\nkind = "device"\ndevice = "no such card at all"\n')))
    ((status, what),) = found(findings, "source")
    assert status == "fail"
    assert "no such card at all" in what or "PortAudio" in what


def test_folder_of_recordings_is_counted_and_an_empty_one_fails(tmp_path: Path) -> None:
    (finding,) = run_check("source", lambda: check_source(config(f'[source]\nkind="file"\npath="{tmp_path}"')))
    assert finding.status == "fail"
    assert "holds no audio file" in finding.what


def test_windows_the_bundle_cannot_do_fail() -> None:
    (finding,) = run_check("bundle", lambda: check_bundle(config("[window]\nhop_s = 0.3\n")))
    assert finding.status == "fail"
    assert "window.hop_s" in finding.what


def test_template_is_found_where_there_is_no_other_unit(tmp_path: Path) -> None:
    folders = (tmp_path / "etc", tmp_path / "lib")
    assert find_unit(folders) is None
    for folder in folders:
        folder.mkdir()
    template, service = folders[0] / "tonald@.service", folders[1] / "tonald.service"
    template.touch()
    assert find_unit(folders) == template
    service.touch()
    assert find_unit(folders) == service


def test_unit_with_an_unknown_key_fails_though_verify_exits_with_0(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    text = (ROOT / "systemd" / "tonald.service").read_text().replace("/opt/tonald/bin/tonald", "/bin/true")
    unit = tmp_path / "tonald.service"
    unit.write_text(text)
    assert [f.status for f in check_unit(unit)] == ["ok"]
    unit.write_text(text.replace("[Service]", "[Service]\nProtectSystems=strict"))
    (finding,) = check_unit(unit)
    assert finding.status == "fail"
    assert "ProtectSystems" in finding.what
    assert [f.status for f in check_unit(tmp_path / "none.service")] == ["fail"]
