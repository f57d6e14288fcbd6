"""A short, always equal part of ``make fuzz``, and the damage that it once found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.allow_list import read_allow_list
from daemon.clock_sync import parse_tracking
from daemon.config import Config
from daemon.sources.file_time import time_of_first_sample
from daemon.wire import decode
from models.errors import ConfigError, InputError, WireError
from tests.fuzz.targets import BY_NAME, TARGETS
from tests.fuzz.worker import try_case

N_CASES = 400


@pytest.mark.parametrize("name", sorted(BY_NAME))
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:Duplicate name:UserWarning")
def test_damaged_bytes_are_read_or_refused(name: str) -> None:
    target = BY_NAME[name]
    found = {how: i for i in range(N_CASES) if (how := try_case(target, target.case(7, i))) not in ("read", "refused")}
    assert not found, f"--target {name} --seed 7 --case N: {found}"


#: Cases of seed 1 that once ended in another error than the documented one.
FOUND = {
    "npz": (19, 56, 168, 195, 259, 1745, 23539), "manifest": (564,), "config": (2510, 4681), "sidecar": (1126, 3444),
    "tracking": (1812,), "audio": (27744,),
}  # fmt: skip


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in FOUND.items() for case in cases])
def test_what_was_found_stays_mended(name: str, case: int) -> None:
    assert try_case(BY_NAME[name], BY_NAME[name].case(1, case)) in ("read", "refused")


def test_settings_with_endless_numbers_or_brackets_are_refused_in_words(tmp_path: Path) -> None:
    for text in ("node = " + "9" * 5000, "node = " + "[" * 5000):
        with pytest.raises(ConfigError, match=r"deep\.toml: "):
            Config.parse(text, "deep.toml")
        path = tmp_path / "clients.toml"
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="clients"):
            read_allow_list(path)


def test_side_car_nested_without_end_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="side-car"):
        time_of_first_sample(tmp_path / "x.wav")


def test_tracking_that_is_infinite_says_nothing() -> None:
    line = "A29FC87B,1.2.3.4,4,1695.1,inf,-0.000001,0.00002,-1.1,0.0,0.01,0.0087,0.0002,64.3,Normal"
    assert parse_tracking(line) is None


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=80), max_size=6))
def test_frames_of_anything_are_refused_in_words(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(frames)


def test_shares_add_up_to_one() -> None:
    assert sum(t.share for t in TARGETS) == pytest.approx(1.0)
