"""Settings: one frozen dataclass per TOML table, each key with its unit, default and meaning.

``Config.load(path)`` reads a file (`daemon.config_reading`); `daemon.config_reference` prints every key.
"""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from calibration.hydrophone import Hydrophone
from daemon.capture.cards import UsbId
from daemon.config_reading import read_settings
from daemon.monitor.address import loopback
from models.errors import ConfigError

__all__ = [
    "ChecksConfig", "Config", "ContactsConfig", "DemonConfig", "EngineConfig", "ExtractConfig", "ForensicConfig",
    "JournalConfig", "LogConfig", "MetricsConfig", "PublishConfig", "SelfTestConfig", "SiteConfig", "SourceConfig",
    "StatusConfig", "WindowConfig",
]  # fmt: skip

SourceKind = Literal["simulated", "file", "pcm", "device"]
SampleFormat = Literal["auto", "s16le", "s24le", "s32le", "f32le"]
EngineName = Literal["auto", "tensorrt", "openvino", "onnxruntime"]


def _key(default: Any, doc: str) -> Any:  # noqa: ANN401  (a dataclass default of any type)
    if isinstance(default, list):
        raise TypeError("use a tuple")
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """Where the samples come from."""

    kind: SourceKind = _key("simulated", "simulated ocean, audio file(s) or folder, raw PCM on stdin, or sound card")
    path: str = _key("", "file or folder, for kind = file")
    realtime: bool = _key(False, "pace files as if live; the simulated ocean is always paced unless max_speed")
    max_speed: bool = _key(False, "simulated ocean: as fast as possible")
    join: bool = _key(False, "several files as one stream, gaps from the times in their names or side-cars")
    device: str = _key("", "sound card, for kind = device: part of its name, or usb:VID:PID[:SERIAL]")
    on_absent: Literal["fail", "wait"] = _key("fail", "sound card that is absent at the start: end, or wait for it")
    on_loss: Literal["wait", "exit", "pause"] = _key(
        "wait", "sound card that is lost: wait for the same one, end with code 69, or stay off until SIGHUP"
    )
    silent_s: float = _key(2.0, "s without signal on all channels after which the sound card is lost; 0: never")
    latency_s: float = _key(0.5, "s that the sound system buffers; less loses samples on a busy machine")
    fs: int = _key(0, "Hz; needed for pcm without a WAV header; 0: as the source or the card says")
    channels: tuple[int, ...] = _key((), "which channels, counted from 0; empty: all")
    pps_channel: int = _key(-1, "input that carries a pulse per second (GPS), counted from 0, not analysed; -1: none")
    n_channels: int = _key(0, "channels of raw PCM, or of the simulated ocean; 0: one, or as a WAV header says")
    sample_format: SampleFormat = _key("auto", "raw PCM; auto: s16le, or as a WAV header says")
    scenario: str = _key("standard", "simulated ocean: standard, low_snr, two_ships, wide or empty")
    seed: int = _key(0, "simulated ocean: which one")
    duration_s: float = _key(0.0, "s; simulated ocean: stop after this long; 0: never")

    def __post_init__(self) -> None:
        if self.kind == "file" and not self.path:
            raise ConfigError("source.path is empty: kind = 'file' needs a file or folder")
        if self.kind == "device" and not self.device:
            raise ConfigError("source.device is empty: name the sound card, 'tonald devices' lists them")
        try:
            UsbId.parse(self.device)
        except ValueError as e:
            raise ConfigError(f"source.device: {e}") from e
        if not 0.0 <= self.silent_s < float("inf"):
            raise ConfigError(f"source.silent_s = {self.silent_s} is not 0 (never) or more, in s")
        if self.fs < 0:
            raise ConfigError(f"source.fs = {self.fs} is negative: give the sample rate in Hz")
        if self.n_channels < 0:
            raise ConfigError(f"source.n_channels = {self.n_channels} is negative")
        if not self.latency_s > 0:
            raise ConfigError(f"source.latency_s = {self.latency_s} is not positive")
        if any(c < 0 for c in self.channels):
            raise ConfigError(f"source.channels = {list(self.channels)}: channels count from 0")
        if len(set(self.channels)) != len(self.channels):
            raise ConfigError(f"source.channels = {list(self.channels)} names a channel twice")
        if self.pps_channel < -1:
            raise ConfigError(f"source.pps_channel = {self.pps_channel}: inputs count from 0; -1: none")
        if self.pps_channel in self.channels:
            raise ConfigError(
                f"source.pps_channel = {self.pps_channel} is also in source.channels: pulses are no sound"
            )
        if self.pps_channel >= 0 and self.kind == "simulated":
            raise ConfigError("source.pps_channel: the simulated ocean has no channel with pulses")
        if self.duration_s < 0:
            raise ConfigError(f"source.duration_s = {self.duration_s} is negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowConfig:
    """The grid."""

    hop_s: float = _key(1.0, "s between windows; a power-of-two fraction or multiple of 1 s that the bundle allows")

    def __post_init__(self) -> None:
        if not self.hop_s > 0:
            raise ConfigError(f"window.hop_s = {self.hop_s} is not positive: the time between windows in s, e.g. 1.0")


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """What runs the network."""

    name: EngineName = _key("auto", "auto takes the first that works here and says which")
    max_batch: int = _key(32, "windows in one call at most")
    n_threads: int = _key(0, "threads of the engine; 0: as many as there are cores")

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ConfigError(f"engine.max_batch = {self.max_batch} is not positive")
        if self.n_threads < 0:
            raise ConfigError(f"engine.n_threads = {self.n_threads} is negative: 0 means as many as there are cores")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractConfig:
    """From score map to signature."""

    nominal: Literal["0.86", "0.95", "0.99"] = _key(
        "0.95", "share of source-free cells that the threshold removes, as calibrated in the bundle"
    )
    mode: Literal["signature", "vessel"] = _key(
        "signature", "what a mask holds: the tonals of the class named, or all coherent tonals of a vessel of any class"
    )
    line_snr_db: float = _key(2.0, "dB; a tonal is reported from this in-bin SNR")
    n_lines_unknown: int = _key(
        0,
        "an ambient window with at least this many tonals is published as 'unknown'; 0: as calibrated in the bundle",
    )

    def __post_init__(self) -> None:
        if self.n_lines_unknown < 0:
            raise ConfigError(f"extract.n_lines_unknown = {self.n_lines_unknown} is negative; 0 turns the rule off")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplanationConfig:
    """How a detection is explained."""

    mode: Literal["live", "full"] = _key(
        "live", "live: one pass of the student network; full: Score-CAM and a test of each line, many passes"
    )
    check_every: int = _key(
        60, "in mode live every so many-th detection is explained in full, too, and the difference reported; 0: never"
    )

    def __post_init__(self) -> None:
        if self.check_every < 0:
            raise ConfigError(f"explanation.check_every = {self.check_every} is negative; 0 turns the check off")


@dataclass(frozen=True, kw_only=True, slots=True)
class ContactsConfig:
    """When a contact starts and ends."""

    false_alarms_per_day: float = _key(
        24.0, "contact starts per day and channel to expect on source-free sea; 0: no gate, whatever starts starts"
    )
    n_start: int = _key(3, "of the last m windows, how many must hold a label to start its contact")
    m: int = _key(5, "analysed windows looked back upon")
    n_hold: int = _key(1, "of the last m windows, how many hold the contact; with fewer it ends")
    curve: str = _key("", "file of measured false alarms; empty: those in the bundle")

    def __post_init__(self) -> None:
        if not 0.0 <= self.false_alarms_per_day < float("inf"):
            raise ConfigError(f"contacts.false_alarms_per_day = {self.false_alarms_per_day}: give 0 (no gate) or more")
        if not 1 <= self.m <= 1000:
            raise ConfigError(f"contacts.m = {self.m} is not in 1..1000 windows")
        if not 1 <= self.n_start <= self.m:
            raise ConfigError(f"contacts.n_start = {self.n_start} is not in 1..contacts.m = {self.m}")
        if not 1 <= self.n_hold <= self.n_start:
            raise ConfigError(f"contacts.n_hold = {self.n_hold} is not in 1..contacts.n_start = {self.n_start}")


@dataclass(frozen=True, kw_only=True, slots=True)
class DemonConfig:
    """Shaft and blade rate from the modulation of the hiss; streams below 3.1 kHz have none."""

    enabled: bool = _key(True, "publish demon/")
    window_s: float = _key(60.0, "s looked back upon, 10 to 600")
    step_s: float = _key(10.0, "s between two records of a channel")

    def __post_init__(self) -> None:
        if not 10.0 <= self.window_s <= 600.0:
            raise ConfigError(f"demon.window_s = {self.window_s}: give 10 to 600 s")
        if not 1.0 <= self.step_s <= self.window_s:
            raise ConfigError(f"demon.step_s = {self.step_s}: give 1 s up to demon.window_s = {self.window_s}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChecksConfig:
    """When a channel is called suspect or bad (docs/capture.md)."""

    enabled: bool = _key(True, "check each channel's samples once a second")
    suspect_s: int = _key(2, "s that a check fails before the channel is suspect")
    bad_s: int = _key(10, "s that it fails before the channel is bad, and holds before it is ok again")
    clipped_share: float = _key(0.0001, "share of samples at full scale from which a channel is clipped")
    dc: float = _key(0.1, "offset from which on it is a fault, as part of full scale")
    hum_db: float = _key(
        15.0, "dB that three harmonics of 50 or 60 Hz stand above their neighbourhood; suspect at most"
    )
    identical: float = _key(0.9999, "correlation of two channels from which on they are one and the same")
    level_min_db_re_fs: float = _key(-120.0, "dB re full scale squared, without offset; below it is too quiet")
    level_max_db_re_fs: float = _key(-3.0, "dB re full scale squared, without offset; above it is too loud")

    def __post_init__(self) -> None:
        if not 1 <= self.suspect_s <= self.bad_s <= 3600:
            raise ConfigError(
                f"checks.suspect_s = {self.suspect_s}: give 1 up to checks.bad_s = {self.bad_s}, and that at most 3600"
            )
        if not 0.0 < self.clipped_share <= 1.0:
            raise ConfigError(f"checks.clipped_share = {self.clipped_share} is not above 0 and at most 1")
        if not 0.0 < self.dc <= 1.0:
            raise ConfigError(f"checks.dc = {self.dc} is not above 0 and at most 1")
        if not self.hum_db > 0.0:
            raise ConfigError(f"checks.hum_db = {self.hum_db} is not positive")
        if not 0.5 <= self.identical <= 1.0:
            raise ConfigError(f"checks.identical = {self.identical} is not in 0.5..1")
        if not self.level_min_db_re_fs < self.level_max_db_re_fs:
            raise ConfigError(
                f"checks.level_min_db_re_fs = {self.level_min_db_re_fs} is not below checks.level_max_db_re_fs = "
                f"{self.level_max_db_re_fs}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteConfig:
    """Thresholds of this place."""

    calibration: str = _key(
        "", "file that 'tonald calibrate --site' wrote; empty: site/site.json in state_dir, if there is one"
    )
    refresh_hours: float = _key(
        0.0, "h; so often thresholds are estimated anew from windows heard as ambient, into state_dir; 0: never"
    )

    def __post_init__(self) -> None:
        if not (self.refresh_hours == 0.0 or 0.2 <= self.refresh_hours <= 8760.0):
            raise ConfigError(f"site.refresh_hours = {self.refresh_hours}: give 0 (never) or 0.2 to 8760")
        if self.refresh_hours and self.calibration:
            raise ConfigError("site.refresh_hours writes into state_dir: leave site.calibration empty")


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishConfig:
    """Who can listen."""

    endpoints: tuple[str, ...] = _key(
        ("tcp://127.0.0.1:5565",), "ZeroMQ endpoints: ipc, tcp on loopback, with keys also tcp://ADDRESS:PORT"
    )
    server_key: str = _key("", "file of the daemon's key pair, or credential:NAME; empty: nothing but this machine")
    allowed_keys: str = _key("", "who may listen with keys: folder of .pub files, or a TOML file; SIGHUP re-reads")
    curve_local: bool = _key(False, "ask for keys on loopback and ipc, too")
    hwm: int = _key(1000, "messages kept for a slow subscriber before it loses some")
    stall_timeout_s: float = _key(30.0, "s; so long a stuck subscriber may hold up a replay of files")
    wait_subscriber_s: float = _key(0.0, "s to wait for a first subscriber before the first record")
    masks: bool = _key(True, "send the mask with each signature, as a frame of its own")
    explain: bool = _key(False, "also publish explain/: CAM and score map of each detection")
    spectrogram: bool = _key(False, "also publish spectrogram/: the normalised LOFARgram of each window")

    def __post_init__(self) -> None:
        if self.hwm < 1:
            raise ConfigError(f"publish.hwm = {self.hwm} is not positive")
        if self.server_key and not self.allowed_keys:
            raise ConfigError("publish.server_key needs publish.allowed_keys: with keys alone anyone could listen")
        if self.allowed_keys and not self.server_key:
            raise ConfigError("publish.allowed_keys needs publish.server_key: 'tonald keygen server' makes one")
        if self.curve_local and not self.server_key:
            raise ConfigError("publish.curve_local needs publish.server_key and publish.allowed_keys")
        for e in self.endpoints:
            if not e.startswith(("tcp://", "ipc://")):
                raise ConfigError(f"publish.endpoints: {e!r} is neither tcp://HOST:PORT nor ipc://PATH")


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalConfig:
    """Signatures and gaps kept on disk, for subscribers who missed some; needs state_dir."""

    enabled: bool = _key(True, "keep them, if there is a state_dir")
    max_mb: float = _key(1000.0, "MB on disk at most; the oldest go first")
    max_days: float = _key(30.0, "days; older ones go")
    reserve_mb: float = _key(200.0, "MB of free disk left to others; below it old ones go, then it pauses")
    endpoints: tuple[str, ...] = _key(
        (), "where it is replayed, under the rules of publish.endpoints; empty: a port, or a name, beside each of those"
    )

    def __post_init__(self) -> None:
        if not 20.0 <= self.max_mb <= 1e7:
            raise ConfigError(f"journal.max_mb = {self.max_mb}: give 20 to 10000000 MB")
        if not 0.01 <= self.max_days <= 36500.0:
            raise ConfigError(f"journal.max_days = {self.max_days}: give 0.01 to 36500 days")
        if not 0.0 <= self.reserve_mb <= 1e7:
            raise ConfigError(f"journal.reserve_mb = {self.reserve_mb}: give 0 to 10000000 MB")
        for e in self.endpoints:
            if not e.startswith(("tcp://", "ipc://")):
                raise ConfigError(f"journal.endpoints: {e!r} is neither tcp://HOST:PORT nor ipc://PATH")


@dataclass(frozen=True, kw_only=True, slots=True)
class ForensicConfig:
    """Raw sound kept on disk, and frozen around contacts."""

    max_mb: int = _key(0, "MB of the latest sound kept in state_dir/forensic, oldest deleted first; 0: none")
    frozen_mb: int = _key(1000, "MB of frozen sound, oldest deleted first")
    reserve_mb: int = _key(500, "MB of the disk left free, whatever the budgets say")
    before_s: float = _key(60.0, "s frozen before a contact was first heard, or before the command")
    after_s: float = _key(30.0, "s frozen after it started, or after the command")
    on: Literal["contacts", "command"] = _key("contacts", "contacts freeze, and 'tonald freeze'; or the command only")
    labels: tuple[str, ...] = _key((), "contacts of which labels freeze; empty: of all")

    def __post_init__(self) -> None:
        for name, most in (("max_mb", 0), ("frozen_mb", 1), ("reserve_mb", 0)):
            if getattr(self, name) < most:
                raise ConfigError(f"forensic.{name} = {getattr(self, name)}: give {most} or more")
        for name in ("before_s", "after_s"):
            if not 0.0 <= getattr(self, name) <= 3600.0:
                raise ConfigError(f"forensic.{name} = {getattr(self, name)}: give 0 to 3600 s")


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTestConfig:
    """Known signatures put into the running daemon."""

    live: bool = _key(False, "let 'tonald selftest --live' put known signatures in, marked test; needs state_dir")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """What goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = _key("info", "least severity written")
    format: Literal["auto", "plain", "json"] = _key(
        "auto", "auto: with the priority that journald reads if it listens, else plain; json: one object per line"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusConfig:
    """What the daemon says of itself, once a second, for 'tonald status'."""

    file: str = _key("", "where it is written; empty: status.json in $RUNTIME_DIRECTORY, if there is one")


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsConfig:
    """The same for Prometheus, on this machine only."""

    listen: str = _key("", "loopback address and port, such as 127.0.0.1:9265; empty: off")

    def __post_init__(self) -> None:
        if self.listen and not loopback(self.listen)[1]:
            raise ConfigError(f"metrics.listen = {self.listen!r}: give the port that is scraped, such as 9265")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """All settings."""

    node: str = _key("tonald", "name of this vessel or machine in every record")
    bundle: str = _key("", "folder of the bundle; empty: the one shipped, trained on the simulated ocean")
    bundle_key: str = _key("", "file of a signer's public key; then only bundles signed by it are used")
    state_dir: str = _key("", "the only folder written to (engine cache, journal); empty: nothing is written")
    hydrophones: str = _key("", "TOML or CSV file with the [[hydrophone]] tables; empty: those of this file, if any")
    source: SourceConfig = field(default_factory=SourceConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    explanation: ExplanationConfig = field(default_factory=ExplanationConfig)
    contacts: ContactsConfig = field(default_factory=ContactsConfig)
    demon: DemonConfig = field(default_factory=DemonConfig)
    checks: ChecksConfig = field(default_factory=ChecksConfig)
    site: SiteConfig = field(default_factory=SiteConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)
    journal: JournalConfig = field(default_factory=JournalConfig)
    forensic: ForensicConfig = field(default_factory=ForensicConfig)
    selftest: SelfTestConfig = field(default_factory=SelfTestConfig)
    status: StatusConfig = field(default_factory=StatusConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    hydrophone: tuple[Hydrophone, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.hydrophones and self.hydrophone:
            raise ConfigError(f"hydrophones = {self.hydrophones!r}: give the tables there or here, not both")
        for n, h in enumerate(self.hydrophone):
            if any(h.channel == other.channel for other in self.hydrophone[:n]):
                raise ConfigError(f"hydrophone[{n}].channel = {h.channel!r} has a table already")
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", self.node):
            raise ConfigError(f"node = {self.node!r}: use 1 to 64 letters, digits, '_', '.' or '-'")
        if self.site.refresh_hours and not self.state_dir:
            raise ConfigError("site.refresh_hours needs a place to write to: set state_dir")
        if self.forensic.max_mb and not self.state_dir:
            raise ConfigError("forensic.max_mb needs a place to write to: set state_dir")
        if self.selftest.live and not self.state_dir:
            raise ConfigError("selftest.live needs a place where it can be asked: set state_dir")

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read and check a TOML file.

        Raises
        ------
        ConfigError
            Naming file, line, key and the nearest known key.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file; 'tonald config > {path}' writes one with every key") from None
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"{path}: cannot be read: {e}") from e
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, name: str = "config") -> Config:
        """Check TOML text; ``name`` stands for it in messages."""
        return typing.cast("Config", read_settings(cls, text, name))
