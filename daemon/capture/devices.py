"""Input devices of PortAudio, and which of them a pattern means. Only ``query`` touches PortAudio."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from daemon.capture.cards import Card, UsbId, card_with, hw_number

__all__ = ["CaptureRefused", "InputDevice", "choose", "query"]


class CaptureRefused(Exception):  # noqa: N818  (crosses the process border as words, then becomes a DeviceError)
    """Why there is no capture, one line for people.

    Parameters
    ----------
    detail : str
    absent : bool
        The device is not there now; it may come.
    """

    def __init__(self, detail: str, *, absent: bool = False) -> None:
        super().__init__(detail)
        self.detail, self.absent = detail, absent


@dataclass(frozen=True, slots=True)
class InputDevice:
    """One device with inputs, as PortAudio names it."""

    index: int
    name: str
    host_api: str
    n_channels: int
    fs: float
    """Its default rate, Hz."""

    def __str__(self) -> str:
        return f"'{self.name}' ({self.host_api}, {self.n_channels} in, {self.fs:g} Hz)"

    @property
    def identity(self) -> str:
        """Name and host API without the number of the card, which changes when it is plugged in anew."""
        return f"{re.sub(r' *[(]hw:[0-9]+,[0-9]+[)]', '', self.name)} ({self.host_api})"


def query() -> list[InputDevice]:
    """Every device with at least one input. Initialises PortAudio: call it in a process that may die.

    Raises
    ------
    CaptureRefused
        If sounddevice or the PortAudio library is missing.
    """
    try:
        import sounddevice
    except ModuleNotFoundError as e:
        raise CaptureRefused(f"sound cards need {e.name}, which is not installed: pip install 'tonald[audio]'") from e
    except OSError as e:
        raise CaptureRefused(
            f"sound cards need the PortAudio library ({e}): 'make system', or apt-get install libportaudio2"
        ) from e
    apis = sounddevice.query_hostapis()
    return [
        InputDevice(
            i, d["name"], apis[d["hostapi"]]["name"], int(d["max_input_channels"]), float(d["default_samplerate"])
        )
        for i, d in enumerate(sounddevice.query_devices())
        if d["max_input_channels"] > 0
    ]


def choose(devices: Sequence[InputDevice], pattern: str, listed: Sequence[Card] = (), was: str = "") -> InputDevice:
    """Return the one device that ``pattern`` means; never a default.

    The pattern is compared with the name, without regard to case: equal to it; else part of ``NAME (HOST API)``; else
    a regular expression found in that. ``usb:VID:PID[:SERIAL]`` is the card with that id among those ``listed``.
    ``was`` is the identity of the device in use before: then it is that one or none.

    Raises
    ------
    CaptureRefused
        If none or several match; the message lists them.
    """
    found = _of_card(devices, usb, listed) if (usb := UsbId.parse(pattern)) else _named(devices, pattern)
    if was and found:
        same = [d for d in found if d.identity == was]
        if not same:
            names = ", ".join(map(str, found))
            raise CaptureRefused(f"'{was}' is gone; '{pattern}' now means {names}, which is not taken", absent=True)
        found = same
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(map(str, found))
        raise CaptureRefused(f"'{pattern}' means {len(found)} input devices, name one: {names}")
    there = ", ".join(map(str, devices)) or "there is none"
    raise CaptureRefused(f"no input device matches '{pattern}'; input devices: {there}", absent=True)


def _named(devices: Sequence[InputDevice], pattern: str) -> list[InputDevice]:
    wanted = pattern.casefold()
    found = [d for d in devices if d.name.casefold() == wanted]
    found = found or [d for d in devices if wanted in f"{d.name} ({d.host_api})".casefold()]
    if not found:
        try:
            expression = re.compile(pattern, re.IGNORECASE)
        except re.error:
            expression = None
        found = [d for d in devices if expression and expression.search(f"{d.name} ({d.host_api})")]
    return found


def _of_card(devices: Sequence[InputDevice], usb: UsbId, listed: Sequence[Card]) -> list[InputDevice]:
    card = card_with(usb, listed)
    if isinstance(card, str):
        raise CaptureRefused(card, absent=card.startswith("no "))
    return [d for d in devices if hw_number(d.name) == card.number]
