"""What is fuzzed: everything that reads bytes from outside. Each target turns one case into a call.

A target is a class with seeds, the errors its documentation allows, and ``run``. Digests are made to fit again after
the damage, where a digest would keep the damage from the parser behind it.
"""

from __future__ import annotations

import atexit
import dataclasses
import datetime
import functools
import hashlib
import importlib.util
import json
import os
import random
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from calibration.site import SiteCalibration
from calibration.site_channel import ChannelCalibration, SiteThreshold
from daemon.allow_list import read_allow_list
from daemon.clock_sync import parse_tracking
from daemon.config import Config
from daemon.config_reference import reference
from daemon.frames import StreamEnd
from daemon.key_files import make_pair, read_pair, read_public, to_text
from daemon.record_file import MAGIC, read_records
from daemon.sources.audio_file import AudioFileSource
from daemon.sources.file_time import time_of_first_sample
from daemon.sources.raw_pcm import RawPcmSource
from daemon.wire import decode
from models.bundle import Bundle
from models.bundle_files import pack_npz, read_npz
from models.bundle_signature import make_signer, sign, verify
from models.errors import AudioFormatError, BundleError, ConfigError, InputError, WireError
from models.manifest import parse_manifest
from tests.fuzz.mutate import mutated

GOLDEN = Path(__file__).resolve().parents[2] / "docs" / "wire" / "golden"
BLANK = "0" * 64
NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)


@dataclasses.dataclass(frozen=True)
class Target:
    """One reader of bytes."""

    name: str
    share: float
    """Of all cases."""
    seeds: Callable[[], list[bytes]]
    run: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...]
    """What its documentation says it raises."""
    repair: Callable[[bytes], bytes] = bytes
    """Makes digests fit again."""

    def case(self, seed: int, i: int) -> bytes:
        """Case ``i``, always the same."""
        rng = random.Random(f"{self.name}/{seed}/{i}")
        seeds = _seeds_of(self)
        data = mutated(rng, rng.choice(seeds), seeds)
        return self.repair(data) if rng.random() < 0.9 else data


@functools.cache
def _seeds_of(target: Target) -> list[bytes]:
    return target.seeds()


@functools.cache
def _scratch() -> Path:
    """A folder of this process, gone with it; a worker's lies in its parent's, who outlives a worker that is killed."""
    path = Path(tempfile.mkdtemp(prefix="fuzz-", dir=os.environ.get("FUZZ_FOLDER") or in_memory()))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def in_memory() -> Path | None:
    """Where small files cost no disk; None: as the system has it."""
    shm = Path("/dev/shm")
    return shm if shm.is_dir() else None


def _put(name: str, data: bytes, mode: int = 0o600) -> Path:
    path = _scratch() / name
    path.write_bytes(data)
    path.chmod(mode)
    return path


# wire and saved records: the frames of a golden message, each with its length before it


def _messages() -> list[bytes]:
    return [path.read_bytes() for path in sorted(GOLDEN.glob("*.bin"))]


def _split(data: bytes) -> list[bytes]:
    frames, at = [], 0
    while at + 4 <= len(data):
        n = struct.unpack_from("<I", data, at)[0]
        frames.append(data[at + 4 : at + 4 + n])
        at += 4 + n
    return frames


def _decode(data: bytes) -> None:
    frames = _split(data)
    if len(frames) > 2 and len(frames[-1]) != 8:
        frames[-1] = bytes(8)  # else nothing behind the number is ever reached
    decode(frames)


def _records() -> list[bytes]:
    whole = MAGIC + b"".join(struct.pack("<I", len(_split(m))) + m for m in _messages()[:4])
    line = json.dumps({"topic": "gap/ch0/", "schema": "tonald/gap", "v": 1, "node": "n"}).encode()
    return [whole, line + b"\n" + line]


def _read_records(data: bytes) -> None:
    for _ in read_records(_put("records", data)):
        pass


# settings, bundle, site


def _settings() -> list[bytes]:
    some = (
        b"node = 'a'\n[source]\nkind = 'file'\npath = 'x.wav'\nchannels = [0, 1]\n[publish]\nendpoints = ['ipc:///x']\n"
    )
    return [reference().encode(), some, some]


def _config(data: bytes) -> None:
    Config.parse(data.decode("utf-8", "replace"), "fuzz.toml")


def _digest(data: bytes) -> bytes:
    """Put the digest that ``data`` should have into its first key."""
    begin = data.find(b'"digest": "')
    if begin < 0:
        return data
    begin += len(b'"digest": "')
    end = data.find(b'"', begin)
    blank = data[:begin] + BLANK.encode() + data[end:]
    return data[:begin] + hashlib.sha256(blank).hexdigest().encode() + data[end:]


def _manifests() -> list[bytes]:
    from tests.toy_bundle import make_bundle

    with tempfile.TemporaryDirectory() as folder:
        make_bundle(Path(folder) / "toy")
        toy = (Path(folder) / "toy" / "manifest.json").read_bytes()
    return [toy, toy, toy, (Bundle.shipped() / "manifest.json").read_bytes()]


WANT = {"masks": (np.float32, (2, 4, 3)), "names": ("S8", (5,))}


def _npz() -> list[bytes]:
    rng = np.random.default_rng(1)
    arrays = {"masks": rng.random((2, 4, 3), np.float32), "names": np.array([b"abc"] * 5, "S8")}
    return [pack_npz(arrays)]


def _zip(data: bytes) -> bytes:
    """Checksums of the stored members fit again, so that the arrays behind them are reached."""
    import zlib

    out = bytearray(data)
    at = 0
    while (at := out.find(b"PK\x03\x04", at)) >= 0 and at + 30 <= len(out):
        size, n_name, n_extra = struct.unpack_from("<I", out, at + 18)[0], *struct.unpack_from("<HH", out, at + 26)
        begin = at + 30 + n_name + n_extra
        crc = zlib.crc32(bytes(out[begin : begin + min(size, 1 << 20)]))
        old = bytes(out[at + 14 : at + 18])
        out[at + 14 : at + 18] = struct.pack("<I", crc)
        central = out.find(b"PK\x01\x02")
        while central >= 0:
            if bytes(out[central + 16 : central + 20]) == old:
                out[central + 16 : central + 20] = struct.pack("<I", crc)
            central = out.find(b"PK\x01\x02", central + 4)
        at += 4
    return bytes(out)


def _read_npz(data: bytes) -> None:
    read_npz({"a.npz": data}, "a.npz", WANT)


@functools.cache
def _signer() -> tuple[bytes, bytes]:
    return make_signer()


def _signatures() -> list[bytes]:
    return [sign(b"manifest", _signer()[0], NOW, None), sign(b"manifest", _signer()[0], NOW, NOW.replace(year=2027))]


def _verify(data: bytes) -> None:
    verify(b"manifest", data, _signer()[1], NOW)


def _sites() -> list[bytes]:
    threshold = {nominal: SiteThreshold(0.5, 0.4, 0.3, 0.6) for nominal in ("0.86", "0.95", "0.99")}
    channel = ChannelCalibration(
        n_windows=100, n_recordings=2, n_segments=10, seconds=900.0, n_detected=0, detected="kept",
        labels={"a": threshold}, vessel=threshold,
    )  # fmt: skip
    site = SiteCalibration(bundle="0" * 16, version=1, created="2026", data="x", channels={"ch0": channel})
    return [site.raw]


# audio


@functools.cache
def _sound() -> np.ndarray:
    return (0.1 * np.random.default_rng(2).standard_normal((1200, 2))).astype(np.float32)


def _audio() -> list[bytes]:
    kinds = (
        ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"),
        ("AIFF", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("CAF", "PCM_16"), ("OGG", "VORBIS"),
    )  # fmt: skip
    found = []
    for kind, subtype in kinds:
        path = _scratch() / "seed"
        soundfile.write(path, _sound(), 4000, format=kind, subtype=subtype)
        found.append(path.read_bytes())
    return found


def _read_audio(data: bytes) -> None:
    source = AudioFileSource(_put("sound.wav", data))
    try:
        _to_the_end(source)
    finally:
        source.close()


def _to_the_end(source: AudioFileSource | RawPcmSource) -> None:
    for _ in range(100_000):
        if isinstance(event := source.read(0.0), StreamEnd) and event.final:
            return
    raise AssertionError("100 000 events and no end")


def _pcm() -> list[bytes]:
    return _audio()[:3]


def _read_pcm(data: bytes) -> None:
    fd = os.open(_put("pcm", data), os.O_RDONLY)
    try:
        _to_the_end(RawPcmSource(fd, fs=None if data[:4] == b"RIFF" else 4000))
    finally:
        os.close(fd)


def _sidecars() -> list[bytes]:
    return [b'{"t_first_sample_ns": 1662015629005000000}', b'{"place": "x", "t_first_sample_ns": null}']


def _read_sidecar(data: bytes) -> None:
    _put("with_sidecar.json", data)
    time_of_first_sample(_scratch() / "with_sidecar.wav")


# keys, clock


def _keys() -> list[bytes]:
    pair = make_pair("bridge")
    return [to_text(pair.public, pair.secret).encode(), to_text(pair.public).encode()]


def _read_keys(data: bytes) -> None:
    path = _put("x.key", data)
    try:
        read_pair(path, "key")
    except ConfigError:
        read_public(path, "key")


def _lists() -> list[bytes]:
    keys = [make_pair(n).public for n in ("bridge", "mess")]
    return ["\n".join(f'{k.name} = "{k.text}"' for k in keys).encode()]


def _read_list(data: bytes) -> None:
    read_allow_list(_put("clients.toml", data))


def _tracking() -> list[bytes]:
    return [b"A29FC87B,162.159.200.123,4,1695.1,0.0000021,-0.000001,0.00002,-1.1,0.0,0.01,0.0087,0.0002,64.3,Normal"]


def _read_tracking(data: bytes) -> None:
    parse_tracking(data.decode("utf-8", "replace"))


def _journals() -> list[bytes]:
    from daemon.journal.entry import FILE_HEAD, Entry, pack

    entries = [Entry(n, 10**18 + n, tuple(_split(m))) for n, m in enumerate(_messages(), 1)]
    return [FILE_HEAD + b"".join(map(pack, entries)), FILE_HEAD + pack(entries[0])]


def _read_journal(data: bytes) -> None:
    from daemon.journal.entry import entries_of

    at = 0
    for begin, _, end in entries_of(data):
        if not at <= begin < end <= len(data):
            raise AssertionError(f"entry {begin}..{end} after {at} in {len(data)} bytes")
        at = end


HAS_JOURNAL = importlib.util.find_spec("daemon.journal") is not None
JOURNAL = (Target("journal", 0.05, _journals, _read_journal, ()),) if HAS_JOURNAL else ()

TARGETS = (
    *JOURNAL,
    Target("wire", 0.40 - sum(t.share for t in JOURNAL), _messages, _decode, (WireError,)),
    Target("records", 0.05, _records, _read_records, (WireError,)),
    Target("config", 0.12, _settings, _config, (ConfigError,)),
    Target("manifest", 0.06, _manifests, parse_manifest, (BundleError,), _digest),
    Target("npz", 0.06, _npz, _read_npz, (BundleError,), _zip),
    Target("signature", 0.04, _signatures, _verify, (BundleError,)),
    Target("site", 0.05, _sites, SiteCalibration.parse, (InputError,), _digest),
    Target("audio", 0.07, _audio, _read_audio, (AudioFormatError, InputError)),
    Target("pcm", 0.05, _pcm, _read_pcm, (AudioFormatError,)),
    Target("sidecar", 0.02, _sidecars, _read_sidecar, (InputError,)),
    Target("keys", 0.04, _keys, _read_keys, (ConfigError,)),
    Target("clients", 0.02, _lists, _read_list, (ConfigError,)),
    Target("tracking", 0.02, _tracking, _read_tracking, ()),
)
BY_NAME = {t.name: t for t in TARGETS}
