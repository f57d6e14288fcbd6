"""Reading JSON that must hold exactly what is expected: every error names the place and the key."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from models.errors import BundleError

__all__ = ["StrictMap"]

T = TypeVar("T")


class StrictMap:
    """A JSON object that is read key by key; what is left over is an error.

    Every method raises BundleError, naming ``where`` and the key, if the value is absent or of another kind.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise BundleError(f"{where}: expected an object, found {type(value).__name__}")
        self._left, self.where = dict(value), where

    def of(self, key: str, kind: type[T]) -> T:
        """Take the value of ``key``, which must be a ``kind``."""
        if key not in self._left:
            raise BundleError(f"{self.where}: key '{key}' is missing")
        value = self._left.pop(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise BundleError(f"{self.where}: {key} is {value!r}, expected {kind.__name__}")
        return value

    def number(self, key: str) -> float:
        """Take a finite number."""
        if isinstance(value := self._left.get(key), int) and not isinstance(value, bool):
            self._left[key] = float(value)
        value = self.of(key, float)
        if not math.isfinite(value):
            raise BundleError(f"{self.where}: {key} is {value}, expected a finite number")
        return value

    def list_of(self, key: str, kind: type[T]) -> list[T]:
        """Take a list of ``kind``."""
        values = self.of(key, list)
        if not all(isinstance(v, kind) and not isinstance(v, bool) for v in values):
            raise BundleError(f"{self.where}: {key} is {values!r}, expected a list of {kind.__name__}")
        return values

    def map(self, key: str) -> StrictMap:
        """Take a nested object."""
        return StrictMap(self.of(key, dict), f"{self.where} {key}")

    def maps(self) -> list[tuple[str, StrictMap]]:
        """Take all that is left, nested objects each."""
        return [(key, self.map(key)) for key in list(self._left)]

    def each(self, read: Callable[[str], T]) -> dict[str, T]:
        """Take all that is left with ``read``."""
        return {key: read(key) for key in list(self._left)}

    def done(self) -> None:
        """Refuse what nobody took."""
        if self._left:
            raise BundleError(f"{self.where}: unknown keys {', '.join(sorted(self._left))}")
