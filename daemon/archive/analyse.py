"""One recording through the daemon's own stages into its parts: what a worker does.

Each recording is a source of its own and meets fresh stages. The windows of one engine call follow from the recording
alone: as many as fill a batch, all channels of a slot together. So its records are the same to the bit whoever computes
them, whatever was computed before, on the same kind of processor; on another they agree within the golden tolerance.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration.own_ship import OwnShip
from calibration.site import SiteCalibration
from daemon.archive.job import Job, Unit
from daemon.archive.parts import Parts, remove_parts
from daemon.archive.tables import RowMaker, schemas
from daemon.compose import Composition
from daemon.frames import Contact, Gap, Record, Signature, SourceState, StreamEnd, StreamStart
from daemon.levels import Levels, levels_of
from daemon.records import Recorder
from daemon.site_state import Site
from daemon.sources.audio_file import AudioFileSource
from daemon.wire import Identity, Message
from models.bundle import Bundle
from models.engines import open_engine
from models.errors import BundleError, EngineError, TonaldError, UsageError
from models.explainer import graphs_of

__all__ = ["FAILED", "Outcome", "reprocess_recording"]

_LOGGER = logging.getLogger(__name__)

FAILED = "failed"
MAX_BLOCK_BYTES = 32 << 20
"""Samples read at once; bounds the memory of a worker."""
_opened = threading.local()


@dataclass(slots=True)
class Outcome:
    """What became of one recording."""

    recording: str
    part: str
    stamp: tuple[int, ...]
    state: str = "done"
    """``done``, or ``failed``: no records."""
    detail: str = ""
    """Why it failed, or what was wrong though it is done: cut short, damaged, too short for a window."""
    fs: int | None = None
    channels: tuple[str, ...] = ()
    t_first_sample_ns: int | None = None
    n_samples: int = 0
    n_windows: int = 0
    n_skipped: int = 0
    n_signatures: int = 0
    n_contacts: int = 0
    n_gaps: int = 0

    @property
    def audio_s(self) -> float:
        """Length of the recording."""
        return self.n_samples / self.fs if self.fs else 0.0


@dataclass(slots=True)
class _Stages:
    """What a thread keeps from one recording to the next; holds no state of any."""

    key: str
    composition: Composition
    identity: Identity
    schemas: dict[str, Any] = field(default_factory=dict)
    levels: Levels = field(default_factory=Levels)


def reprocess_recording(job: Job, unit: Unit) -> dict[str, Any]:
    """Analyse one recording and write its parts; the `Outcome` as a dict.

    Raises
    ------
    InputError
        If the parts cannot be written.
    UsageError, BundleError, EngineError
        If this machine has another tonald or bundle, or the engine does not work here.
    """
    stages = _stages(job)
    outcome = Outcome(unit.recording, unit.part, unit.stamp)
    maker = RowMaker(unit.recording, stages.schemas)
    with Parts(Path(job.out), unit.part, stages.schemas) as parts:
        messages = _messages(job, unit, stages, outcome)
        while True:
            message = None
            try:
                message = next(messages, None)
            except (BundleError, EngineError):
                raise  # no fault of the recording: others would fail alike
            except TonaldError as e:
                outcome.state, outcome.detail = FAILED, str(e)
            except Exception as e:  # one recording must not end a run of months: it is listed and told
                _LOGGER.exception("%s", unit.path)
                outcome.state, outcome.detail = FAILED, f"unexpected {type(e).__name__}: {e}"
            if message is None or outcome.state == FAILED:
                break
            for table, row in maker.rows(message):
                parts.add(table, row)
        if outcome.state != FAILED:
            about = dataclasses.asdict(outcome)
            parts.finish({**about, "key": job.key, "bundle": stages.identity.bundle})
    if outcome.state == FAILED:
        remove_parts(Path(job.out), unit.part)
    return dataclasses.asdict(outcome)


def _messages(job: Job, unit: Unit, stages: _Stages, outcome: Outcome) -> Iterator[Message]:
    publisher = hashlib.sha256(f"{job.key}/{unit.part}".encode()).hexdigest()[:32]  # contact ids: unique, yet the same
    identity = dataclasses.replace(stages.identity, publisher=publisher)
    recorder = Recorder(
        identity, stages.composition.spec, job.labels, masks=job.config.publish.masks, levels=stages.levels
    )
    pipeline = stages.composition.pipeline()
    source = _open(job, unit, stages)
    try:
        while (event := source.read(0.0)) is not None:
            for record in pipeline.process(event):
                _note(record, outcome)
                for message in recorder.process(record):
                    if message.family == "window":
                        outcome.n_windows += message.body["analysed"]
                        outcome.n_skipped += not message.body["analysed"]
                    yield message
    finally:
        source.close()


def _note(record: Record, outcome: Outcome) -> None:
    match record:
        case StreamStart():
            outcome.fs, outcome.channels = record.fs, record.channels
            outcome.t_first_sample_ns = record.t_first_sample_ns
        case Signature():
            outcome.n_signatures += not record.own_ship
        case Contact():
            outcome.n_contacts += record.event == "start"
        case Gap():
            outcome.n_gaps += 1
        case SourceState(state="refused"):
            outcome.state, outcome.detail = FAILED, record.detail
        case StreamEnd():
            outcome.n_samples = record.n_samples
            outcome.detail = outcome.detail or record.problem


def _open(job: Job, unit: Unit, stages: _Stages) -> AudioFileSource:
    """The recording, in blocks that fill a batch of the engine."""
    import soundfile

    path, wanted = Path(unit.path), job.config.source.channels or None
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError):
        return AudioFileSource(path, channels=wanted)  # raises, with a reason for people
    n_channels = len(wanted) if wanted else info.channels
    n_slots = max(1, job.config.engine.max_batch // n_channels)
    n_samples = min(n_slots * stages.composition.spec.step_s * info.samplerate, MAX_BLOCK_BYTES / 4 / info.channels)
    return AudioFileSource(path, channels=wanted, block_s=n_samples / info.samplerate)


def _stages(job: Job) -> _Stages:
    """Bundle and engine, opened once per thread: an engine serves one thread only."""
    held: _Stages | None = getattr(_opened, "stages", None)
    if held is not None and held.key == job.key:
        return held
    version = importlib.metadata.version("tonald")
    if version != job.settings["tonald"]:
        raise UsageError(f"a worker has tonald {version}, the run is of {job.settings['tonald']}: install the same")
    bundle = Bundle.load(Path(job.bundle_path))
    if bundle.id != job.settings["bundle"]:
        raise BundleError(f"{job.bundle_path} holds bundle {bundle.id} here, the run needs {job.settings['bundle']}")
    c = job.config.engine
    engine, report = open_engine(
        bundle, c.name, max_batch=c.max_batch, n_threads=c.n_threads, graphs=graphs_of(bundle),
        precision=job.settings["engine"]["precision"],
        state_dir=Path(job.config.state_dir) if job.config.state_dir else None,
    )  # fmt: skip
    site = Site(
        None if job.site is None else SiteCalibration.parse(job.site), levels=levels_of(job.config),
        own_ship=None if job.own_ship is None else OwnShip.parse(job.own_ship),
    )  # fmt: skip
    identity = Identity(job.config.node, "", bundle.id, site.id)
    composition = Composition.of(job.config, bundle, engine, site)
    _opened.stages = _Stages(job.key, composition, identity, schemas(bundle.labels), site.levels)
    _LOGGER.info("engine %s", report)
    return _opened.stages  # type: ignore[no-any-return]  # a thread-local has no types
