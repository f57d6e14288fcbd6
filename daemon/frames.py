"""Types between the stages: frozen, arrays read-only, channel first, time last.

Time is a sample index within a stream epoch. A new epoch starts at sample 0 whenever a source starts anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from models.demon_lines import Modulation
from models.verdict import Detection, Verdict

__all__ = [
    "Analysed", "AudioBlock", "Backlog", "ClockState", "ClockUpdate", "Contact", "ContactLine", "Detection", "Event",
    "Forensic", "Gap", "Health", "Modulated", "Overload", "Reason", "Record", "Signature", "Skipped", "Source",
    "SourceState",
    "StreamEnd", "StreamStart", "TonalLine", "Verdict", "Window",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Reason: TypeAlias = Literal["gap", "invalid", "overload", "warm-up"]
"""Why a slot of the grid was not analysed."""
Quality: TypeAlias = tuple[tuple[str, Literal["ok", "suspect", "bad"]], ...]
"""Checks that a channel fails (daemon.checks), each with its state."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """What is known of the clock behind a stream."""

    source: Literal["file", "system", "pps", "none"] = "none"
    """Where UTC comes from: the file's own start time, the system clock, a pulse per second, or nowhere."""
    synced: bool | None = None
    """Whether the system clock is disciplined; None when unknown."""
    est_error_ns: int | None = None
    fs_measured: float | None = None
    """Sample rate against the clock, Hz; None until measured."""
    rate_ppm: float | None = None
    """The same as deviation from the nominal rate, parts per million."""
    rate_err_ppm: float | None = None
    """Standard error of ``rate_ppm``."""
    n_steps: int = 0
    """Times since the epoch's start that the clock stepped and UTC was counted anew."""


@dataclass(frozen=True, slots=True)
class StreamStart:
    """A new epoch begins: a source started, a card was replaced, or the next file begins."""

    source: str
    epoch: int
    fs: int
    """Hz."""
    channels: tuple[str, ...]
    """One name per channel, as in topics."""
    label: str = ""
    """What the stream is, for people: a file name, a device name, a scenario."""
    t_first_sample_ns: int | None = None
    """UTC of sample 0, Unix ns; None when unknown."""
    clock: ClockState = field(default_factory=ClockState)


@dataclass(frozen=True, slots=True, eq=False)
class AudioBlock:
    """Consecutive samples of all channels."""

    source: str
    epoch: int
    first_sample: int
    fs: int
    x: F32
    """``(n_channels, n_samples)``, full scale 1."""
    arrived: tuple[int, int] | None = None
    """So many samples of the epoch had been taken at this moment of CLOCK_MONOTONIC, ns; None where nobody stamped."""

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        return int(self.x.shape[1])


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples that never arrived, or cannot be used.

    Within an epoch ``n_missing`` is exact and the stream goes on at ``first_sample + n_missing``. Between epochs it is
    None and the length is an estimate from the clock with its error.
    """

    source: str
    epoch: int
    first_sample: int
    n_missing: int | None
    duration_ns: int
    err_ns: int
    reason: str
    channel: int | None = None
    """The one channel concerned; None for all."""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The epoch is over: ``n_samples`` is its length, gaps included."""

    source: str
    epoch: int
    n_samples: int
    final: bool = False
    """The source will give no more streams."""
    problem: str = ""
    """What was wrong with the stream, if anything: truncated, too short, refused. One line for people."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """The source has nothing to give at present, or was refused; or it works again."""

    source: str
    state: Literal["running", "waiting", "refused"]
    detail: str
    n_retries: int = 0


@dataclass(frozen=True, slots=True)
class ClockUpdate:
    """From a sample on, UTC is counted anew: ``t_from_ns + (n - from_sample) 10^9 / fs``, with the rate measured."""

    source: str
    epoch: int
    from_sample: int
    """What was said of earlier samples stands; what was said of this and later ones does not."""
    t_from_ns: int | None
    """UTC of ``from_sample``, Unix ns; None when unknown."""
    clock: ClockState
    words: str = ""
    """What happened to the clock, for people; empty: nothing, the measurement went on."""


@dataclass(frozen=True, slots=True)
class Overload:
    """The daemon went one step up or down the overload ladder (`daemon.overload`)."""

    source: str
    step: int
    """0..3; 0: nothing is left out."""
    words: str
    """For people."""


@dataclass(frozen=True, slots=True)
class Forensic:
    """What happened to the sound kept on disk (daemon.forensic)."""

    source: str
    epoch: int
    event: Literal["frozen", "lost"]
    """A span was frozen; or samples were not kept, or a span could not be frozen."""
    first_sample: int
    n_samples: int
    n_missing: int
    """Of the samples concerned, those that are not on disk."""
    words: str
    """For people: why it was frozen, or what went wrong."""
    folder: str | None = None
    """Name of the folder below ``forensic/frozen`` in the state directory."""
    lost_samples_total: int = 0
    """Samples per channel that the ring did not keep since the daemon started."""


Event: TypeAlias = StreamStart | AudioBlock | Gap | ClockUpdate | StreamEnd | SourceState


Record: TypeAlias = (
    "StreamStart | Analysed | Skipped | Signature | Contact | Modulated | Gap | ClockUpdate | StreamEnd | SourceState "
    "| Overload | Forensic | Health"
)
"""What the pipeline makes of events."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Sound that was taken but not read yet."""

    waiting_s: float
    most_s: float
    """From so much on samples are lost, s."""


class Source(Protocol):
    """Where samples come from. One thread uses it; ``close`` may be called twice."""

    name: str
    live: bool
    """Real-time: it cannot wait, what is not read is lost and counted. False: back-pressure, nothing is lost."""

    def read(self, timeout_s: float) -> Event | None:
        """Next event; None if there is none within ``timeout_s``. After a ``StreamEnd`` with ``final`` comes no more.

        Order of an epoch: ``StreamStart``, then ``AudioBlock`` and ``Gap`` without overlap, then ``StreamEnd``.
        """

    def backlog(self) -> Backlog | None:
        """What waits to be read; None where nothing can be lost, because the source can wait."""

    def close(self) -> None:
        """Let go of files, processes and memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One analysed slot of one channel."""

    source: str
    channel: str
    epoch: int
    grid_index: int
    first_sample: int
    """Source samples from the epoch's start."""
    n_samples: int
    fs: int
    features: F32
    """``(n_planes, n_freq, n_time)``, 0..1."""
    spectrum_db: F32
    """``(n_freq, n_time)``, dB re full scale squared."""
    background_db: F32
    """``(n_freq, n_time)``, the background under it, same unit."""
    level_db: float
    """Mean-square level in the band of the front end, dB re full scale squared."""
    audio_digest: str
    """Digest of the source samples, see daemon.digest."""
    overload_step: int = 0
    """Step of the overload ladder that it is analysed at, `daemon.overload`."""
    quality: Quality | None = None
    """Checks that the channel fails at its end; None: not checked."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """One slot of one channel that was not analysed, and why."""

    source: str
    channel: str
    epoch: int
    grid_index: int
    first_sample: int
    n_samples: int
    fs: int
    reason: Reason
    lost_samples: int
    """Of its ``n_samples``, how many are missing or unusable."""
    probabilities: F32 | None = None
    """``(n_labels,)`` of the network, where it was asked all the same; read-only."""
    quality: Quality | None = None
    """Checks that the channel fails at its end; None: not checked."""


@dataclass(frozen=True, slots=True)
class TonalLine:
    """One tonal within one window."""

    freq_hz: float
    freq_err_hz: float
    """Standard error of ``freq_hz``."""
    bandwidth_hz: float
    snr_db: float
    """In-bin signal to noise ratio, mean over its duration."""
    level_db: float
    """Mean-square level of the line, its power in all bins it touches, dB re full scale squared."""
    t_start_s: float
    """After the window's first sample."""
    t_end_s: float
    drift_hz_per_s: float = 0.0
    label: str | None = None
    """Class that most probably owns the line; None where no class has a template."""
    label_probability: float = 0.0
    """That this class sounds and the line is its, 0..1."""
    family_hz: float | None = None
    """Fundamental of the harmonic family the line belongs to; None for a line of none."""
    noise_db: float | None = None
    """Mean-square level of the background in one bin under the line, dB re full scale squared."""
    own_ship: bool = False
    """A line of the own ship, as learned (calibration.own_ship)."""


@dataclass(frozen=True, slots=True, eq=False)
class Analysed:
    """The outcome of one window, whether anything was heard or not."""

    window: Window
    verdict: Verdict
    lines: tuple[TonalLine, ...]
    """All lines found, whatever they belong to."""
    n_signatures: int
    """How many signatures follow, those of the own ship not counted."""
    own_ship: bool = False
    """The own ship was taken out of the verdict: nothing but its lines spoke for what is missing there."""


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """What one label left in one window."""

    window: Window
    verdict: Verdict
    label: str
    """A class of the bundle, or ``unknown``."""
    probability: float
    mask: Mask
    """``(n_freq, n_time)``, cells that belong to the label, or in mode ``vessel`` to any vessel."""
    lines: tuple[TonalLine, ...]
    mode: Literal["signature", "vessel"] = "signature"
    own_ship: bool = False
    """Nothing but lines of the own ship speaks for it: published as such, never part of a contact."""

    @property
    def signature(self) -> F32:
        """``(n_freq, n_time)`` the features inside the mask, 0 elsewhere."""
        inside: F32 = np.where(self.mask, self.window.features[0], np.float32(0.0))
        return inside


@dataclass(frozen=True, slots=True)
class ContactLine:
    """One tonal of a contact, followed over windows."""

    number: int
    """Within the contact, from 0, in the order of appearance."""
    freq_hz: float
    """Mean over the windows it was heard in."""
    freq_first_hz: float
    freq_last_hz: float
    drift_hz_per_s: float
    """Least squares over all its windows; of the one window if it was heard in one only."""
    snr_db: float
    """In-bin signal to noise ratio, mean over its windows."""
    n_windows: int
    """Windows it was heard in."""
    alive: bool
    """Still followed; False: lost."""


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact starts, goes on or ends: windows of one label on one channel that persist (daemon.contacts)."""

    source: str
    channel: str
    epoch: int
    fs: int
    label: str
    """A class of the bundle, or ``unknown``."""
    event: Literal["start", "update", "end"]
    reason: Literal["heard", "lost", "gap", "ended", "reload"]
    """Why this record: heard; or it ended: no longer heard, too long a gap, the stream ended."""
    first_sample: int
    """Of the first window it was heard in; with label, channel and epoch the contact's identity."""
    n_samples: int
    """To the end of the last window it was heard in."""
    n_windows: int
    """Windows it was heard in."""
    n_skipped: int
    """Slots of the grid since its first window that were not analysed."""
    peak_probability: float
    """Highest in any window; of ``unknown``: the highest of any class."""
    peak_score: float
    """Highest in any window: log-odds of the class, or of ``unknown`` lines counted by their share of the window."""
    lines: tuple[ContactLine, ...]
    """Tonals followed at present; at the end all that lasted."""


@dataclass(frozen=True, slots=True)
class Modulated:
    """What DEMON says of one channel: how its hiss is modulated, or why that cannot be told."""

    source: str
    channel: str
    epoch: int
    fs: int
    first_sample: int
    n_samples: int
    modulation: Modulation | None
    """None: not available on this stream, for ``reason``."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """What the checks of a channel (daemon.checks) measured in one tile, and the states after it."""

    source: str
    channel: str
    epoch: int
    fs: int
    first_sample: int
    n_samples: int
    quality: Quality
    level_db: float
    """Mean square without the offset, dB re full scale squared; -inf for a flat line."""
    peak: float
    """Full scale 1."""
    dc: float
    clipped_share: float
    low_bit: int
    """Lowest bit that moves, 0 = 2**-23 of full scale."""
    n_stuck_bits: int
    hum_db: float | None
    """None: the rate is too low to tell."""
    alike: float
    """Correlation with the most alike other channel, -1..1."""
    alike_to: str | None
