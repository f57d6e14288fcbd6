"""Settings: the reference loads, mistakes are named with line and nearest key."""

import dataclasses
from pathlib import Path

import pytest

from daemon.config import Config, SourceConfig
from daemon.config_reference import reference
from models.errors import ConfigError


def test_reference_loads_and_equals_the_defaults() -> None:
    assert Config.parse(reference()) == Config()


def test_reference_explains_every_key() -> None:
    text = reference()
    for f in dataclasses.fields(SourceConfig):
        assert f"\n# {f.metadata['doc']}" in text
        assert f"\n{f.name} = " in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nnoode = 'x'", "t.toml:2: unknown key 'noode'; nearest is 'node'"),
        ("[window]\n\nhops_s = 1.0", "t.toml:3: unknown key 'window.hops_s'; nearest is 'hop_s'"),
        ("hop_s = 1.0", "t.toml:1: unknown key 'hop_s'; did you mean 'window.hop_s'"),
        ("[window]\nhop_s = -1", "t.toml:2: window.hop_s = -1.0 is not positive"),
        ("[engine]\nname = 'cuda'", "t.toml:2: engine.name = 'cuda' is not one of"),
        ("[engine]\nmax_batch = true", "t.toml:2: engine.max_batch = True is not a whole number"),
        ("[source]\nchannels = [0, 'a']", "t.toml:2: source.channels"),
        ("[source]\nchannels = [1, 1]", "names a channel twice"),
        ("[source]\nkind = 'file'", "source.path is empty"),
        ("[publish]\nendpoints = ['udp://1']", "t.toml:2: publish.endpoints: 'udp://1'"),
        ("node = ''", "t.toml:1: node = ''"),
        ("source = 1", "write \\[source\\]"),
        ("a = [", "t.toml: "),
    ],
)
def test_mistake_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.parse(text, "t.toml")


def test_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tonald config >"):
        Config.load(tmp_path / "no.toml")


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load(path)
