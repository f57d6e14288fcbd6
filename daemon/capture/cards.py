"""Sound cards as the kernel lists them: number, name, USB id and serial number. Reads ``/proc`` and ``/sys`` only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Card", "UsbId", "card_with", "cards", "hw_number", "is_gone"]

PROC, SYS = Path("/proc/asound"), Path("/sys")
_LINE = re.compile(r"\s*(\d+)\s+\[(.{1,16}?)\s*\]:\s*(.*)")


@dataclass(frozen=True, slots=True)
class Card:
    """One card; its number changes when it is plugged in anew."""

    number: int
    name: str
    usb: str = ""
    """``vid:pid``, hexadecimal; empty: it is not on USB."""
    serial: str = ""
    """Of the USB device; empty: it has none, or it cannot be read."""

    def __str__(self) -> str:
        usb = f", usb:{self.usb}" + (f":{self.serial}" if self.serial else "") if self.usb else ""
        return f"card {self.number} '{self.name}'{usb}"


@dataclass(frozen=True, slots=True)
class UsbId:
    """``usb:VID:PID[:SERIAL]``, as ``lsusb`` prints the first two."""

    usb: str
    serial: str = ""

    @classmethod
    def parse(cls, text: str) -> UsbId | None:
        """None if ``text`` does not begin with ``usb:``.

        Raises
        ------
        ValueError
            If it does, but is no such id.
        """
        if not text.lower().startswith("usb:"):
            return None
        m = re.fullmatch(r"usb:([0-9a-f]{4}):([0-9a-f]{4})(?::(\S+))?", text, re.IGNORECASE)
        if m is None:
            raise ValueError(f"'{text}' is not usb:VID:PID or usb:VID:PID:SERIAL, such as usb:0d8c:0014")
        return cls(f"{m[1]}:{m[2]}".lower(), m[3] or "")


def cards(proc: Path = PROC, sys: Path = SYS) -> list[Card]:
    """All cards; none where the kernel has no sound."""
    try:
        text = (proc / "cards").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = [m for line in text.splitlines() if (m := _LINE.match(line))]
    return [_card(int(m[1]), m[3], proc, sys) for m in found]


def is_gone(device: str, proc: Path = PROC) -> bool:
    """Whether the kernel no longer lists the card of a device, by PortAudio's name of it.

    False where there is no list, as in containers, and for a device that is no card.
    """
    number = hw_number(device)
    return number is not None and (proc / "cards").exists() and number not in [c.number for c in cards(proc)]


def card_with(wanted: UsbId, listed: Sequence[Card]) -> Card | str:
    """Return the one card with that USB id, or in words why there is none."""
    found = [c for c in listed if c.usb == wanted.usb and wanted.serial in ("", c.serial)]
    if len(found) == 1:
        return found[0]
    name = f"usb:{wanted.usb}" + (f":{wanted.serial}" if wanted.serial else "")
    if found:
        return f"{len(found)} cards are {name}, add the serial number: {', '.join(map(str, found))}"
    return f"no sound card is {name}; cards in {PROC / 'cards'}: {', '.join(map(str, listed)) or 'there is none'}"


def hw_number(name: str) -> int | None:
    """Card number in the name that PortAudio gives an ALSA device, ``NAME: PCM (hw:1,0)``; None: not of a card."""
    m = re.search(r"\(hw:(\d+),\d+\)", name)
    return None if m is None else int(m[1])


def _card(number: int, name: str, proc: Path, sys: Path) -> Card:
    usb = _word(proc / f"card{number}" / "usbid").lower()
    device = sys / "class" / "sound" / f"card{number}" / "device"  # a link to the interface; the device is above it
    return Card(number, name, usb, _word(device.resolve().parent / "serial") if usb else "")


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # not there: the card is no USB device, or went while we looked
        return ""
