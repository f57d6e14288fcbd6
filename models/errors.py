"""The one exception tree; it lives in the lowest layer so that every layer can raise from it.

::

    TonaldError                   exit code 1
    ├── ConfigError               78  a setting is wrong: file, line and nearest key are named
    ├── UsageError                64  a command was called with words that do not fit together
    ├── InputError                66  a file or folder is missing or cannot be opened
    ├── AudioFormatError          65  the audio cannot be used: not audio, wrong rate, no such channel
    │   └── SampleRateError       65  sampled below the rate of the front end
    ├── DeviceError               69  no such sound card, or it does not give what was asked
    ├── BundleError               79  a bundle is damaged, unknown or does not fit
    ├── EngineError               80  no engine works here, or it misses the golden outputs
    │   └── EngineUnavailable     80  the runtime library or its hardware is absent
    ├── PublishError              71  an endpoint cannot be bound, or the publisher died
    └── WireError                 76  a message does not keep to the wire contract

Each message says what was wrong, where, and what to do. The exit code is what a service manager sees.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AudioFormatError",
    "BundleError",
    "ConfigError",
    "DeviceError",
    "EngineError",
    "EngineUnavailable",
    "InputError",
    "PublishError",
    "SampleRateError",
    "TonaldError",
    "UsageError",
    "WireError",
]


class TonaldError(Exception):
    """Root of all errors that tonald raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(TonaldError):
    """A setting is wrong."""

    exit_code = 78


class UsageError(TonaldError):
    """A command was called with words that do not fit together."""

    exit_code = 64


class InputError(TonaldError):
    """A file or folder is missing or cannot be opened."""

    exit_code = 66


class AudioFormatError(TonaldError):
    """The audio cannot be used."""

    exit_code = 65


class SampleRateError(AudioFormatError):
    """The audio is sampled below the rate of the front end."""


class DeviceError(TonaldError):
    """No such sound card, or it does not give what was asked."""

    exit_code = 69


class BundleError(TonaldError):
    """A bundle is damaged, unknown or does not fit."""

    exit_code = 79


class EngineError(TonaldError):
    """No engine works here, or it misses the golden outputs."""

    exit_code = 80


class EngineUnavailable(EngineError):  # noqa: N818  (the field says "unavailable")
    """The runtime library of an engine, or its hardware, is absent."""


class PublishError(TonaldError):
    """An endpoint cannot be bound, or the publisher died."""

    exit_code = 71


class WireError(TonaldError):
    """A message does not keep to the wire contract (docs/wire)."""

    exit_code = 76
