"""The reference of all settings, made of the code: itself a valid file that sets every default."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Literal, get_args, get_origin

from daemon.config import Config
from daemon.config_reading import table_of

__all__ = ["reference"]


def reference() -> str:
    """Return every key with meaning and default, as a TOML file that loads."""
    lines = ["# tonald: every setting with its default. Unknown keys are errors.", ""]
    for f in dataclasses.fields(Config):
        if "doc" in f.metadata:
            lines += _entry(f, Config)
    for f in dataclasses.fields(Config):
        if "doc" not in f.metadata:
            hint = typing.get_type_hints(Config)[f.name]
            table = table_of(hint)
            if table is not hint:
                lines += _several(f.name, table)
                continue
            lines += ["", f"[{f.name}]", f"# {table.__doc__}"]
            for g in dataclasses.fields(table):
                lines += _entry(g, table)
    return "\n".join(lines) + "\n"


def _several(name: str, table: type[Any]) -> list[str]:
    """Keys of a table that there may be none or several of; as comments, as none is set by default."""
    lines = ["", f"# [[{name}]]   one for each channel that is calibrated; see docs/levels.md"]
    for f in dataclasses.fields(table):
        unset = isinstance(f.default, float) and f.default != f.default
        lines += [f"# {f.metadata['doc']}", f"# {f.name} = {'' if unset else _toml(f.default)}"]
    return lines


def _entry(f: dataclasses.Field[Any], cls: type[Any]) -> list[str]:
    hint = typing.get_type_hints(cls)[f.name]
    allowed = " | ".join(map(str, get_args(hint))) if get_origin(hint) is Literal else ""
    doc = f.metadata["doc"] + (f" ({allowed})" if allowed else "")
    return [f"# {doc}", f"{f.name} = {_toml(f.default)}"]


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case int() | float():
            return repr(value)
    raise TypeError(f"no TOML for {type(value)}")
