"""docs/tools.md names what there is."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from daemon.cli import COMMANDS
from daemon.config import Config, ForensicConfig
from daemon.doctor.examine import examine
from daemon.frames import ClockState
from daemon.takes.side_car import Stamp, Take

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tools.md").read_text()


def test_each_tool_has_its_section_and_each_command_named_exists() -> None:
    for name in ("doctor", "selftest", "record", "export", "freeze", "support"):
        assert name in COMMANDS
        assert f"tonald {name} " in PAGE
    assert {m[1] for m in re.finditer(r"tonald ([a-z]+) --", PAGE)} <= set(COMMANDS)


def test_each_key_of_a_side_car_is_explained() -> None:
    take = Take(
        stamp=Stamp("n", "s", "v"), source="c", label="", epoch=0, first_sample=0, n_samples=1, fs=1, channels=("ch0",),
        t_first_sample_ns=None, clock=ClockState(), began="", n_missing_before=None, ended="", samples_digest="",
        sha256="", extra={"frozen": {}},
    )  # fmt: skip
    keys = set(json.loads(take.to_json())) - {"schema", "v", "label"}
    assert {key for key in keys if f"`{key}`" not in PAGE} == set()


def test_settings_of_the_ring_load_as_the_page_shows_them(tmp_path: Path) -> None:
    block = PAGE[PAGE.index("    [forensic]") :].split("\n\n")[0]
    config = Config.parse(f'state_dir = "{tmp_path}"\n' + re.sub(r"^    ", "", block, flags=re.MULTILINE))
    assert config.forensic.max_mb == 20_000
    assert {f.name for f in dataclasses.fields(ForensicConfig) if f.name not in block} == set()


@pytest.mark.parametrize("text", ["", '[source]\nkind = "device"\ndevice = "x"\n'])
def test_each_check_of_the_doctor_is_in_the_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tonald.toml"
    path.write_text(f'state_dir = "{tmp_path}"\n{text}[publish]\nendpoints = ["ipc://{tmp_path}/out"]\n')
    table = PAGE[PAGE.index("| check | fails |") :].split("\n\n")[0]
    assert {f.check for f in examine(path) if f"`{f.check}`" not in table} == set()
