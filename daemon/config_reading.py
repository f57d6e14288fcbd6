"""From TOML to frozen dataclasses: strict keys and types, and messages that name file, line and the nearest key."""

from __future__ import annotations

import collections
import dataclasses
import difflib
import re
import sys
import typing
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from models.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_settings", "table_of"]


def read_settings(cls: type[Any], text: str, name: str) -> Any:  # noqa: ANN401  (of the class given)
    """Build ``cls`` of TOML text; ``name`` stands for the text in messages.

    Raises
    ------
    ConfigError
        If it is no TOML, a key is unknown, a value does not fit, or the class refuses it.
    """
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as e:  # no TOML, a number of thousands of digits, nested too deep
        raise ConfigError(f"{name}: {e}") from e
    return _Reader(cls, _Where(name, text)).build(cls, values, ())


@dataclass(frozen=True)
class _Where:
    """Finds the line of a key, for messages."""

    name: str
    text: str

    def __call__(self, keys: tuple[str, ...]) -> str:
        table: tuple[str, ...] = ()
        n_tables: collections.Counter[str] = collections.Counter()
        for n, line in enumerate(self.text.splitlines(), 1):
            if m := re.match(r"\s*\[\[\s*([^\]]+?)\s*\]\]", line):
                table = (f"{m[1]}[{n_tables[m[1]]}]",)
                n_tables[m[1]] += 1
                if table == keys:
                    return f"{self.name}:{n}"
            elif m := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
                table = tuple(k.strip().strip("\"'") for k in m[1].split("."))
                if table == keys:
                    return f"{self.name}:{n}"
            elif m := re.match(r"\s*([A-Za-z0-9_\"'.-]+)\s*=", line):
                key = tuple(k.strip("\"'") for k in m[1].split("."))
                if table + key == keys:
                    return f"{self.name}:{n}"
        return self.name


class _Reader:
    """One reading: of which class the whole is, and where a key stands."""

    def __init__(self, root: type[Any], where: _Where) -> None:
        self._root, self._where = root, where

    def build(self, cls: type[Any], values: dict[str, Any], at: tuple[str, ...]) -> Any:  # noqa: ANN401
        hints = typing.get_type_hints(cls)
        known = {f.name for f in dataclasses.fields(cls)}
        settings = {}
        for key, value in values.items():
            path = (*at, key)
            if key not in known:
                near = difflib.get_close_matches(key, known, 1, 0.5)
                elsewhere = [p for p in _all_keys(self._root) if p[-1] == key]
                hint = f"; nearest is '{near[0]}'" if near else ""
                hint = f"; did you mean '{'.'.join(elsewhere[0])}'?" if elsewhere else hint
                raise ConfigError(f"{self._where(path)}: unknown key '{'.'.join(path)}'{hint}")
            settings[key] = self._value(hints[key], value, path)
        try:
            return cls(**settings)
        except ConfigError as e:
            bad = re.match(r"([a-z_.0-9\[\]]+)", str(e))
            if at and "[" in at[-1]:  # one of several alike: say which
                raise ConfigError(f"{_first(self._where, at, bad)}: {'.'.join(at)}: {e}") from e
            raise ConfigError(f"{self._where(tuple(bad[1].split('.')) if bad else at)}: {e}") from e

    def _value(self, hint: Any, value: Any, path: tuple[str, ...]) -> Any:  # noqa: ANN401
        name = ".".join(path)
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise ConfigError(f"{self._where(path)}: '{name}' is a table: write [{name}]")
            return self.build(typing.cast("type[Any]", hint), value, path)
        if get_origin(hint) is Literal:
            if value not in get_args(hint):
                raise ConfigError(
                    f"{self._where(path)}: {name} = {value!r} is not one of {', '.join(map(repr, get_args(hint)))}"
                )
            return value
        if get_origin(hint) is tuple:
            item = get_args(hint)[0]
            if dataclasses.is_dataclass(item):
                if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
                    raise ConfigError(f"{self._where(path)}: '{name}' are tables: write [[{name}]]")
                of = typing.cast("type[Any]", item)
                return tuple(self.build(of, v, (*path[:-1], f"{path[-1]}[{n}]")) for n, v in enumerate(value))
            if not isinstance(value, list) or not all(_is(item, v) for v in value):
                raise ConfigError(f"{self._where(path)}: {name} = {value!r} is not a list of {item.__name__}")
            return tuple(map(item, value))
        if not _is(hint, value):
            raise ConfigError(f"{self._where(path)}: {name} = {value!r} is not {_article(hint)}")
        return hint(value)


def _first(where: _Where, at: tuple[str, ...], bad: re.Match[str] | None) -> str:
    """Place of the key that a message begins with; of its table where the key is not set."""
    place = where((*at, bad[1])) if bad else where.name
    return where(at) if place == where.name else place


def _is(hint: type[Any], value: object) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def _article(hint: type[Any]) -> str:
    return {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}[hint]


def _all_keys(cls: type[Any], at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    hints: dict[str, Any] = typing.get_type_hints(cls)
    keys: list[tuple[str, ...]] = []
    for f in dataclasses.fields(cls):
        inner: type[Any] = table_of(hints[f.name])
        at_key = (*at, f.name)
        keys += _all_keys(inner, at_key) if not f.metadata else [at_key]
    return keys


def table_of(hint: Any) -> Any:  # noqa: ANN401  (any type may stand beside a setting)
    """Of a table, or of tables of which there may be several, the dataclass."""
    return get_args(hint)[0] if get_origin(hint) is tuple else hint
