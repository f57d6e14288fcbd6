"""The unit files as shipped: how much they leave open, what systemd says of them, both one, the pages true to them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from models import errors
from tests.unit.page import BLOCK
from tests.unit.parts import PARTS

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("tonald.service", "tonald@.service")
PROGRAM = "/opt/tonald/bin/tonald"
LIMIT = 1.3

Lines = list[tuple[str, str, str]]
"""(section, key, value) in order."""

PLAIN = {
    "Type", "ExecStart", "ExecReload", "Restart", "RestartSec", "RestartPreventExitStatus", "TimeoutStartSec",
    "TimeoutStopSec", "KillMode", "WatchdogSec", "Environment", "StateDirectory", "RuntimeDirectory",
}  # fmt: skip
"""Keys of [Service] that close nothing; docs/install.md tells of them."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian package systemd)"
)


def lines_of(name: str) -> Lines:
    found, section = [], ""
    for line in (ROOT / "systemd" / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((section, key, value))
    return found


def keys_that_close(name: str) -> list[str]:
    return sorted({key for section, key, _ in lines_of(name) if section == "Service"} - PLAIN)


def analyze(*words: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def installed(folder: Path, name: str, *, network: bool = False) -> Path:
    """The unit in ``folder`` with a program that exists; verify looks for it."""
    unit = folder / name
    unit.write_text((ROOT / "systemd" / name).read_text().replace(PROGRAM, "/bin/true"))
    if network:
        drop_ins = folder / f"{name}.d"
        drop_ins.mkdir()
        shutil.copy(ROOT / "systemd" / "network.conf", drop_ins)
    return unit


def exposure(unit: Path) -> float:
    said = analyze("security", "--offline=yes", unit)[1]
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found[1])


@needs_systemd
@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("name", UNITS)
def test_exposure_is_within_the_limit_and_as_the_page_says(tmp_path: Path, name: str, network: bool) -> None:
    measured = exposure(installed(tmp_path, name, network=network))
    assert measured <= LIMIT
    row = f"| `{name}`{' with `network.conf`' if network else ''} | {measured:g} |"
    assert row in (ROOT / "docs" / "security.md").read_text()


@needs_systemd
def test_a_weaker_unit_scores_higher(tmp_path: Path) -> None:
    unit = installed(tmp_path, "tonald.service")
    before = exposure(unit)
    unit.write_text(unit.read_text().replace("PrivateUsers=yes\n", "").replace("CapabilityBoundingSet=\n", ""))
    assert exposure(unit) > max(before, LIMIT)


@needs_systemd
@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_every_key_without_a_word(tmp_path: Path, name: str, network: bool) -> None:
    assert analyze("verify", installed(tmp_path, name, network=network)) == (0, "")


@needs_systemd
def test_a_key_that_systemd_does_not_know_is_told_of_with_exit_code_0(tmp_path: Path) -> None:
    """Why silence is asked for, not the exit code."""
    unit = installed(tmp_path, "tonald.service")
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHouse="))
    code, said = analyze("verify", unit)
    assert code == 0
    assert "ProtectHouse" in said


def test_the_template_is_the_service_but_for_its_names() -> None:
    names = {
        ("Unit", "Description"): lambda v: f"{v} of %i",
        ("Service", "ExecStart"): lambda v: v.replace("/etc/tonald/tonald.toml", "/etc/tonald/%i.toml"),
        ("Service", "StateDirectory"): lambda v: f"{v}-%i",
        ("Service", "RuntimeDirectory"): lambda v: f"{v}-%i",
        ("Service", "NoExecPaths"): lambda v: re.sub(r"(?<=/)tonald\b", "tonald-%i", v),
    }
    expected: Lines = []
    for section, key, value in lines_of("tonald.service"):
        expected.append((section, key, names[section, key](value) if (section, key) in names else value))
        if key == "DynamicUser":
            expected.append((section, "User", "tonald-%i"))
    assert lines_of("tonald@.service") == expected


def test_folders_that_the_daemon_may_write_to_run_no_programs() -> None:
    for name in UNITS:
        values = {key: value for _, key, value in lines_of(name)}
        closed = values["NoExecPaths"].split()
        assert f"-/run/{values['RuntimeDirectory']}" in closed
        assert f"-/var/lib/private/{values['StateDirectory']}" in closed


@pytest.mark.parametrize("name", UNITS)
def test_the_page_says_of_each_key_what_it_closes(name: str) -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    rows = " ".join(line for line in text.splitlines() if line.startswith("|"))
    assert [key for key in keys_that_close(name) if f"`{key}" not in rows] == []


def test_the_page_names_no_key_that_the_unit_lacks() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    table = text.partition("| key | what it closes |")[2].partition("\n\n")[0]
    named = {word.partition("=")[0] for word in re.findall(r"`([A-Z][A-Za-z]+(?:=[^`]*)?)`", table.replace("\\|", ""))}
    assert named
    assert sorted(named - set(keys_that_close("tonald@.service"))) == []


def test_what_ends_for_good_is_what_the_install_notes_say() -> None:
    """No restart exactly where starting again would not mend it, and the table of exit codes says the same."""
    values = {key: value for _, key, value in lines_of("tonald.service")}
    final = {str(errors.ConfigError.exit_code), str(errors.BundleError.exit_code)}
    assert set(values["RestartPreventExitStatus"].split()) == final
    text = (ROOT / "docs" / "install.md").read_text()
    told = dict(re.findall(r"^\| ([0-9, ]+) \|.*\| (\S+) \|$", text, re.MULTILINE))
    assert {code for code, restarts in told.items() if restarts == "no"} == final
    for name in errors.__all__:
        assert str(getattr(errors, name).exit_code) in told, name


def test_the_page_shows_a_whole_run_of_make_unit() -> None:
    found = BLOCK.search((ROOT / "docs" / "security.md").read_text())
    assert found
    assert re.findall(r"^\| `(\w+)` \|", found[0], re.MULTILINE) == list(PARTS)
    assert f"unit: {len(PARTS)} of {len(PARTS)} promises kept" in found[0]
    assert "BROKEN" not in found[0]
