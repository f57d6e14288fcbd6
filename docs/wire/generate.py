"""Write what docs/wire says of the fields from daemon/wire_schema.py: JSON Schema, README tables, golden messages.

``python docs/wire/generate.py`` after a field was added; a test fails while the files differ. A golden file that
changes where no field was added breaks subscribers: do not commit that.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from calibration.hydrophone import Hydrophone  # noqa: E402
from daemon.frames import (  # noqa: E402  (found only by the line above)
    Analysed,
    ClockState,
    ClockUpdate,
    Contact,
    ContactLine,
    Detection,
    Forensic,
    Gap,
    Health,
    Modulated,
    Signature,
    Skipped,
    SourceState,
    StreamEnd,
    StreamStart,
    TonalLine,
    Verdict,
    Window,
)
from daemon.levels import Levels  # noqa: E402
from daemon.records import Recorder, info_message  # noqa: E402
from daemon.wire import Identity, Message, common, encode, sequence_frame, topic_of  # noqa: E402
from daemon.wire_schema import (  # noqa: E402
    ARRAY,
    CHECK,
    CLOCK,
    COMMON,
    CONTACT_LINE,
    CONTACT_RULE,
    DETECTION,
    ENGINE,
    FAMILIES,
    JOURNAL_STATE,
    LINE,
    MODULATION_LINE,
    QUALITY,
    Field,
    json_schema,
)
from models.demon_lines import Modulation, ModulationLine  # noqa: E402
from models.features import FeatureSpec  # noqa: E402

if TYPE_CHECKING:
    from daemon.pipeline import Record

IDENTITY = Identity("vessel", "0" * 32, "0123456789abcdef")
SPEC = FeatureSpec()
LABELS = ("vessel_0", "vessel_1", "ambient")
T_NS = 1_790_000_000_000_000_000
RULE = {
    "n_start": 3, "m": 5, "n_hold": 1, "hop_s": 1.0, "class_gate": 1.5, "unknown_gate": None,
    "false_alarms_per_day": 24.0, "expected_per_day": 20.5, "extrapolated": False,
    "words": "a contact starts when 3 of 5 windows hold it",
}  # fmt: skip


def known_records() -> list[Record]:
    """One record of each kind, made of numbers that are exact in float32."""
    ramp = (np.arange(32, dtype=np.float32) / np.float32(32)).reshape(8, 4)
    digest = "00112233445566778899aabbccddeeff"
    window = Window(
        "file", "ch0", 1, 3, 6000, 17000, 2000, ramp[None], ramp, ramp, -31.5, digest, quality=(("hum", "suspect"),)
    )
    chances = np.array([0.75, 0.125, 0.125], np.float32)
    found = (Detection("vessel_0", 0.75, ramp, ramp, 12.5),)
    verdict = Verdict(found, False, False, chances, "vessel_0/12", 0.5, None, {}, 1.25)
    lines = (
        TonalLine(72.125, 0.0625, 2.5, 11.5, -52.25, 0.25, 8.0, -0.125, "vessel_0", 0.9375, 12.0),
        TonalLine(144.25, 0.125, 3.0, 8.0, -60.0, 1.0, 7.5, noise_db=-80.0, own_ship=True),
    )
    return [
        StreamStart("file", 1, 2000, ("ch0", "ch1"), "tug.flac", T_NS, ClockState("file", None, 1_000_000, None)),
        Analysed(window, verdict, lines, 1),
        Signature(window, verdict, "vessel_0", 0.75, ramp > 0.875, lines),
        Signature(window, verdict, "unknown", 0.75, ramp > 0.875, lines[1:], own_ship=True),
        Gap("file", 1, 23000, 100, 50_000_000, 0, "invalid", channel=0),
        Skipped("file", "ch0", 1, 4, 8000, 17000, 2000, "invalid", 100),
        ClockUpdate("file", 1, 9000, T_NS + 4_500_000_000, ClockState("pps", True, 2_000, 2000.25, 125.0, 0.5, 1)),
        SourceState("file", "waiting", "no sound for 2 s", 3),
        StreamEnd("file", 1, 120000, True, "truncated: 60.0 s of 90.0 s"),
        Contact(
            "file", "ch0", 1, 2000, "vessel_0", "end", "gap", 4000, 31000, 7, 2, 0.875, 1.9375,
            (
                ContactLine(0, 72.125, 72.5, 71.75, -0.125, 11.5, 7, alive=True),
                ContactLine(2, 144.25, 144.25, 144.5, 0.0625, 8.0, 4, alive=False),
            ),
        ),
        Modulated(
            "file", "ch0", 1, 2000, 0, 120000,
            Modulation(True, False, 42.5, 2.0625, 0.00390625, 4, (ModulationLine(4, 8.25, 11.5),)),
        ),
        Forensic("file", 1, "frozen", 4000, 60000, 100, "command: tug abeam", "20260921T141322.000000Z_0_e1_s4000", 0),
        Health(
            "file", "ch0", 1, 2000, 6000, 2000, (("clipped", "bad"), ("hum", "suspect")), -31.5, 1.0, -0.125, 0.25, 8,
            0, 18.5, 0.5, "ch1",
        ),
    ]  # fmt: skip


SITE = {
    "in_force": True, "version": 3, "created": "2026-01-01T00:00:00+00:00", "channels": ["ch0"],
    "words": "0123456789abcdef (version 3 of 2026-01-01T00:00:00+00:00, channels ch0, from recordings in sea)",
}  # fmt: skip


def known_messages() -> list[Message]:
    """All messages of the known records, and those of the publisher itself."""
    levels = Levels({"ch0": Hydrophone(channel="ch0", full_scale_db=175.0)})
    recorder = Recorder(IDENTITY, SPEC, LABELS, explain=True, spectrogram=True, levels=levels)
    info = info_message(
        IDENTITY, SPEC, version="0.1.0", labels=LABELS, engine="openvino", precision="f32", device="CPU",
        endpoints=["tcp://127.0.0.1:5565"], contacts=RULE, site=SITE, hydrophones=["ch0: full scale = 175.0 dB re 1 uPa (peak)"], own_ship="not learned",
        passed_over=["no tensorrt: no usable NVIDIA card: CUDA counts none; is its driver installed (nvidia-smi)?"],
    )  # fmt: skip
    heartbeat = {
        **common(IDENTITY, "heartbeat"), "interval_s": 1.0, "uptime_s": 12.5, "t_sent_ns": T_NS, "final": False,
        "high_water": {"window/ch0/": 4}, "n_sent": 9, "n_dropped": 0, "n_stalls": 0, "n_subscriptions": 2,
        "journal": {
            "id": "f" * 32, "first_seq": 1, "next_seq": 120, "n_bytes": 2_400_000, "problem": None, "n_missed": 0,
            "replay": ["tcp://127.0.0.1:5566"],
        },
    }  # fmt: skip
    told = [m for record in known_records() for m in recorder.process(record)]
    info = Message(info.topic, {**info.body, "features": {"name": "lofar", "fs_model": 2000}})
    return [info, Message(topic_of("heartbeat"), heartbeat), *told]


def golden() -> dict[str, bytes]:
    """File name -> the first message of each family, framed: per frame its length (4 bytes, little-endian), then it."""
    files: dict[str, bytes] = {}
    for n, message in enumerate(known_messages()):
        if f"{message.family}.bin" not in files:
            frames = [*encode(message), sequence_frame(n)]
            files[f"{message.family}.bin"] = b"".join(struct.pack("<I", len(f)) + f for f in frames)
    return files


def frames_of(data: bytes) -> list[bytes]:
    """Frames of a golden file."""
    frames = []
    while data:
        n = struct.unpack_from("<I", data)[0]
        frames.append(data[4 : 4 + n])
        data = data[4 + n :]
    return frames


def schemas() -> dict[str, str]:
    """File name -> JSON Schema."""
    return {f"{family}.json": json.dumps(json_schema(family), indent=1) + "\n" for family in FAMILIES}


def table(fields: Mapping[str, Field]) -> str:
    """Markdown table of fields."""
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for name, f in fields.items():
        kind = f"{f.kind} of {f.of.kind}" if f.of else f.kind
        doc = f.doc + (f" ({', '.join(f'`{word}`' for word in f.one_of)})" if f.one_of else "")
        rows.append(f"| `{name}` | {kind}{' or null' if f.null else ''} | {doc.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def readme(text: str) -> str:
    """README with its tables, between ``<!-- fields NAME -->`` and ``<!-- end -->``, written anew."""
    parts = {"common": COMMON, "clock": CLOCK, "array": ARRAY, "line": LINE, "detection": DETECTION, "engine": ENGINE}
    parts |= {
        "journal_state": JOURNAL_STATE,
        "modulation_line": MODULATION_LINE,
        "contact_line": CONTACT_LINE,
        "contact_rule": CONTACT_RULE,
        "check": CHECK,
        "quality": QUALITY,
    } | FAMILIES

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}\n{table(parts[match[2]])}\n{match[3]}"

    return re.sub(r"(<!-- fields (\w+) -->).*?(<!-- end -->)", fill, text, flags=re.DOTALL)


def main() -> None:
    """Write all files."""
    for name, text in schemas().items():
        (HERE / "schema" / name).write_text(text, encoding="utf-8")
    for name, data in golden().items():
        (HERE / "golden" / name).write_bytes(data)
    page = HERE / "README.md"
    page.write_text(readme(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
