"""Cards of the kernel by USB id, from folders as Linux lays them out; and what a pattern means among devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.capture.cards import Card, UsbId, card_with, cards, hw_number, is_gone
from daemon.capture.devices import CaptureRefused, InputDevice, choose
from daemon.config import Config
from models.errors import ConfigError

CARDS = """ 0 [PCH            ]: HDA-Intel - HDA Intel PCH
                      HDA Intel PCH at 0xf7e10000 irq 30
 2 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-0000:00:14.0-2, full speed
11 [Device_1       ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-0000:00:14.0-3, full speed
"""


@pytest.fixture
def kernel(tmp_path: Path) -> tuple[Path, Path]:
    """Two cards of one make, one with a serial number, and the board's own."""
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    for number, serial in ((0, None), (2, "A1"), (11, "")):
        (proc / f"card{number}").mkdir(parents=True)
        if number:
            (proc / f"card{number}" / "usbid").write_text("0D8C:0014\n")
        interface = sys / "devices" / f"usb{number}" / f"1-{number}" / f"1-{number}:1.0"
        interface.mkdir(parents=True)
        if serial:
            (interface.parent / "serial").write_text(f"{serial}\n")
        link = sys / "class" / "sound" / f"card{number}"
        link.mkdir(parents=True)
        (link / "device").symlink_to(interface)
    (proc / "cards").write_text(CARDS)
    return proc, sys


def test_cards_are_listed_with_number_name_id_and_serial(kernel: tuple[Path, Path]) -> None:
    assert cards(*kernel) == [
        Card(0, "HDA-Intel - HDA Intel PCH"),
        Card(2, "USB-Audio - USB PnP Sound Device", "0d8c:0014", "A1"),
        Card(11, "USB-Audio - USB PnP Sound Device", "0d8c:0014", ""),
    ]


@pytest.mark.parametrize("text", ["", "--- no soundcards ---\n"])
def test_machine_without_cards_has_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "cards").write_text(text)
    assert cards(tmp_path, tmp_path) == []
    assert cards(tmp_path / "absent", tmp_path) == []


def test_card_that_goes_while_it_is_looked_at_is_one_without_id(kernel: tuple[Path, Path]) -> None:
    proc, sys = kernel
    (proc / "card2" / "usbid").unlink()
    assert cards(proc, sys)[1] == Card(2, "USB-Audio - USB PnP Sound Device")


def test_usb_id_means_one_card_or_says_why_not(kernel: tuple[Path, Path]) -> None:
    listed = cards(*kernel)
    assert card_with(UsbId.parse("usb:0D8C:0014:A1"), listed) == listed[1]
    assert "2 cards are usb:0d8c:0014, add the serial number" in card_with(UsbId.parse("usb:0d8c:0014"), listed)
    assert "no sound card is usb:1234:0014; cards in /proc/asound/cards: card 0" in card_with(
        UsbId.parse("usb:1234:0014"), listed
    )
    assert card_with(UsbId.parse("usb:1234:0014"), []).endswith("there is none")


@pytest.mark.parametrize("text", ["usb:", "usb:0d8c", "usb:0d8c:14", "usb:0d8c:0014:", "usb:0d8g:0014", "usb:a b:c"])
def test_malformed_usb_id_is_refused_with_line_and_form(text: str) -> None:
    with pytest.raises(ConfigError, match=r"x:3: source.device: .*usb:VID:PID"):
        Config.parse(f'[source]\nkind = "device"\ndevice = "{text}"\n', "x")


def test_usb_id_finds_the_card_by_whatever_number_it_has_now(kernel: tuple[Path, Path]) -> None:
    listed = cards(*kernel)
    devices = [
        InputDevice(0, "HDA Intel PCH: ALC (hw:0,0)", "ALSA", 2, 48_000.0),
        InputDevice(1, "USB PnP Sound Device: Audio (hw:11,0)", "ALSA", 1, 48_000.0),
        InputDevice(2, "USB PnP Sound Device: Audio (hw:2,0)", "ALSA", 1, 48_000.0),
    ]
    assert choose(devices, "usb:0d8c:0014:A1", listed).index == 2
    replugged = [Card(11, "USB", "0d8c:0014", "A1"), Card(2, "USB", "0d8c:0014")]
    assert choose(devices, "usb:0d8c:0014:A1", replugged, devices[2].identity).index == 1
    with pytest.raises(CaptureRefused, match="add the serial number") as refused:
        choose(devices, "usb:0d8c:0014", listed)
    assert not refused.value.absent
    with pytest.raises(CaptureRefused, match="no sound card is usb:0d8c:9999") as refused:
        choose(devices, "usb:0d8c:9999", listed)
    assert refused.value.absent
    with pytest.raises(CaptureRefused, match="no input device matches 'usb:0d8c:0014:A1'"):
        choose(devices[:1], "usb:0d8c:0014:A1", listed)  # PortAudio does not offer it: busy, or no rights


def test_device_in_use_before_is_taken_again_and_no_other() -> None:
    was = InputDevice(3, "USB PnP Sound Device: Audio (hw:2,0)", "ALSA", 1, 48_000.0)
    again = InputDevice(1, "USB PnP Sound Device: Audio (hw:4,0)", "ALSA", 1, 48_000.0)
    other = InputDevice(2, "USB Headset: Audio (hw:5,0)", "ALSA", 1, 48_000.0)
    assert was.identity == again.identity == "USB PnP Sound Device: Audio (ALSA)"
    assert choose([other, again], "usb", (), was.identity) == again
    with pytest.raises(CaptureRefused, match=r"'USB PnP Sound Device: Audio \(ALSA\)' is gone; 'usb' now means") as e:
        choose([other], "usb", (), was.identity)
    assert e.value.absent


def test_number_of_a_card_is_in_the_name_of_its_devices_only() -> None:
    assert hw_number("USB PnP Sound Device: Audio (hw:12,3)") == 12
    assert hw_number("hydro") is None


def test_device_whose_card_is_listed_no_more_is_gone(kernel: tuple[Path, Path], tmp_path: Path) -> None:
    proc, _ = kernel
    assert not is_gone("USB PnP Sound Device: Audio (hw:2,0)", proc)
    assert is_gone("USB PnP Sound Device: Audio (hw:3,0)", proc)
    assert not is_gone("hydro", proc)
    (proc / "cards").write_text("--- no soundcards ---\n")
    assert is_gone("USB PnP Sound Device: Audio (hw:2,0)", proc)
    assert not is_gone("USB PnP Sound Device: Audio (hw:2,0)", tmp_path / "container")  # it hides the list
