from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from daemon.sources.file_time import time_in_name, time_of_first_sample
from models.errors import InputError


def ns(*fields: int, rest: int = 0) -> int:
    return int(datetime(*fields, tzinfo=timezone.utc).timestamp()) * 10**9 + rest


@pytest.mark.parametrize(
    ("stem", "t"),
    [
        ("rec_20220925T223450", ns(2022, 9, 25, 22, 34, 50)),
        ("osekit_220925_223450", ns(2022, 9, 25, 22, 34, 50)),
        ("2025-09-01T07-00-29-005", ns(2025, 9, 1, 7, 0, 29, rest=5_000_000)),
        ("orcasoundlab_20250901T070029", ns(2025, 9, 1, 7, 0, 29)),
        ("ICLISTENHF_20100305T120000.123456Z", ns(2010, 3, 5, 12, 0, 0, rest=123_456_000)),
        ("mars_20150910_070000_2kHz", ns(2015, 9, 10, 7, 0, 0)),
        ("20150910_part1", None),
        ("call-0012345678", None),
        ("20221399T999999", None),
        ("ch1", None),
    ],
)
def test_time_in_name_of_known_patterns_is_utc(stem: str, t: int | None) -> None:
    found = time_in_name(stem)
    assert (found and found.t_ns) == t


def test_time_of_first_sample_with_sidecar_prefers_it_to_the_name(tmp_path: Path) -> None:
    audio = tmp_path / "20220925T223450.wav"
    assert time_of_first_sample(audio).t_ns == ns(2022, 9, 25, 22, 34, 50)
    audio.with_suffix(".json").write_text(json.dumps({"t_first_sample_ns": 123}))
    assert time_of_first_sample(audio).t_ns == 123
    audio.with_suffix(".json").write_text(json.dumps({"other": 1}))
    assert time_of_first_sample(audio).t_ns == ns(2022, 9, 25, 22, 34, 50)


@pytest.mark.parametrize("text", ["{", '{"t_first_sample_ns": "noon"}', '{"t_first_sample_ns": true}'])
def test_time_of_first_sample_with_bad_sidecar_says_which(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json"):
        time_of_first_sample(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("stem", "resolution_ns"),
    [("220925_223450", 10**9), ("2025-09-01T07-00-29-005", 10**6), ("20100305T120000.123456Z", 10**3)],
)
def test_time_in_name_knows_what_its_last_digit_is_worth(stem: str, resolution_ns: int) -> None:
    assert time_in_name(stem).resolution_ns == resolution_ns
