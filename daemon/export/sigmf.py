"""SigMF 1.2: ``NAME.sigmf-meta``, and with a recording ``NAME.sigmf-data``, its samples as rf32_le."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import uuid
from pathlib import Path
from typing import Any

from daemon.export.selections import Selection, Stream
from daemon.takes.side_car import utc_text

__all__ = ["meta_of", "to_text", "write_data"]

VERSION = "1.2.0"
OURS = "tonald"
PIECE = 1 << 16
_SPACE = uuid.UUID("6f0f1f0a-54a4-5d0c-8d39-6c1d0b2b7f10")


def meta_of(
    stream: Stream, *, n_channels: int, sha512: str | None = None, first_sample: int | None = None,
    utc_ns: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Content of the meta file.

    Parameters
    ----------
    stream : Stream
        Its selections count from the data's first sample.
    n_channels : int
    sha512 : str, optional
        Of the data file; None: there is none.
    first_sample : int, optional
        Of the data in the stream.
    utc_ns : int, optional
        UTC of the data's first sample.
    """
    version = importlib.metadata.version("tonald")
    top: dict[str, Any] = {
        "core:datatype": "rf32_le", "core:version": VERSION, "core:sample_rate": stream.fs,
        "core:num_channels": n_channels, "core:recorder": f"tonald {version}",
        "core:description": f"{stream.name}; node {stream.node or 'unknown'}, bundle {stream.bundle or 'unknown'}",
        "core:extensions": [{"name": OURS, "version": "1.0.0", "optional": True}],
    }  # fmt: skip
    top |= {"core:metadata_only": True} if sha512 is None else {"core:sha512": sha512}
    capture: dict[str, Any] = {"core:sample_start": 0}
    if first_sample is not None:
        capture["core:global_index"] = first_sample
    if (began := utc_text(utc_ns)) is not None:
        capture["core:datetime"] = began
    notes = [_annotation(stream, n, s, f"tonald {version}") for n, s in enumerate(stream.selections)]
    notes.sort(key=lambda a: int(a["core:sample_start"]))
    return {"global": top, "captures": [capture], "annotations": notes}


def _annotation(stream: Stream, n: int, s: Selection, generator: str) -> dict[str, Any]:
    name = f"{stream.publisher}/{stream.name}/{stream.epoch}/{n}/{s.kind}/{s.begin}/{s.low_hz}"
    note: dict[str, Any] = {
        "core:sample_start": round(s.begin), "core:sample_count": max(1, round(s.n_samples)),
        "core:freq_lower_edge": float(s.low_hz), "core:freq_upper_edge": float(s.high_hz), "core:label": s.label,
        "core:generator": generator, "core:uuid": str(uuid.uuid5(_SPACE, name)),
        f"{OURS}:kind": s.kind, f"{OURS}:channel": s.channel, f"{OURS}:test": s.test,
    }  # fmt: skip
    known = {"probability": s.probability, "snr_db": s.snr_db, "level_db_re_fs": s.level_db_re_fs, "freq_hz": s.freq_hz}
    note |= {f"{OURS}:{k}": float(v) for k, v in known.items() if v is not None}
    return note


def write_data(recording: Path, data: Path) -> tuple[str, int]:
    """Write the samples, channels interleaved; return SHA-512 and number of channels.

    Raises
    ------
    OSError
    """
    import soundfile

    digest = hashlib.sha512()
    with soundfile.SoundFile(recording) as audio, data.open("xb") as out:
        while len(frames := audio.read(PIECE, dtype="float32", always_2d=True)):
            raw = frames.astype("<f4", copy=False).tobytes()
            digest.update(raw)
            out.write(raw)
        return digest.hexdigest(), int(audio.channels)


def to_text(meta: dict[str, Any]) -> str:
    """As it stands in the file."""
    return json.dumps(meta, indent=2) + "\n"
