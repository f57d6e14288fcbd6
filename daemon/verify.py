"""A record held against a recording: whether it is the same sound, and the same bundle says the same of it.

::

    record ─► where in the recording? (first_sample, else time) ─► digest ─► recomputed by the daemon's own stages
                                                                     └ audio differs          └ equal, result differs

The window is recomputed alone: by construction it depends on nothing outside its span. What the networks say may differ
by the bundle's golden tolerance for the precision of the engine that made the record; what follows from the samples by
plain arithmetic, by rounding only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from daemon.compose import Composition
from daemon.config import Config, DemonConfig
from daemon.digest import digest_of
from daemon.frames import AudioBlock, Signature, StreamEnd, StreamStart
from daemon.recording import Recording
from daemon.records import Recorder
from daemon.site_state import Site
from daemon.verify_compare import Tolerance, differences
from daemon.wire import Identity, Message
from models.bundle import Bundle
from models.engines.base import Engine
from models.errors import BundleError, ConfigError

__all__ = ["Finding", "Outcome", "Verifier"]

F32 = npt.NDArray[np.float32]
Outcome: TypeAlias = Literal["equal", "audio differs", "result differs"]
FAMILIES = ("window", "signature")
"""What can be verified."""
MAX_TRIES = 20_000
"""Places at which a record is looked for around its time."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came out for one record."""

    outcome: Outcome
    details: tuple[str, ...] = ()
    """What differs, one line each."""
    at_sample: int | None = None
    """Where in the recording its sound lies; None: nowhere."""


class Verifier:
    """Holds the stages that made the records, or ones like them.

    Parameters
    ----------
    config : Config
        Of the daemon that made the records; what is not about windows and signatures does not matter.
    bundle : Bundle
    engine : Engine
    site : Site
    precision : str, optional
        Of the engine that made the records; None: as ``engine``.
    """

    def __init__(
        self, config: Config, bundle: Bundle, engine: Engine, site: Site, precision: str | None = None
    ) -> None:
        quiet = dataclasses.replace(config.explanation, check_every=0)
        config = dataclasses.replace(config, explanation=quiet, demon=DemonConfig(enabled=False))
        self._bundle, self._site, self._mode = bundle, site, config.explanation.mode
        self._nominal = config.extract.nominal
        self._composition = Composition.of(config, bundle, engine, site)
        self._spec = self._composition.spec
        self.tolerance = Tolerance.of(bundle, precision or engine.precision)

    def verify(self, record: Message, recording: Recording) -> Finding:
        """Compare one ``window/`` or ``signature/`` record of an analysed window with a recording.

        Raises
        ------
        BundleError, ConfigError
            If the record was made by another bundle, site calibration or grid.
        AudioFormatError
            If the recording has no such channel.
        """
        body = record.body
        self._same_makers(body)
        if recording.fs != body["fs"]:
            return Finding("audio differs", (f"the recording has {recording.fs} Hz, the record {body['fs']} Hz",))
        step = self._step(body)
        why = ""
        for n_tried, first in enumerate(self._places(body, recording)):
            if n_tried == MAX_TRIES:
                why = f"not found in {MAX_TRIES} places around its time"
                break
            x = recording.read(first, body["n_samples"], body["channel"])
            if x.size == body["n_samples"] and digest_of(x, step) == body["audio_digest"]:
                return self._result(record, x, first)
            short = x.size < body["n_samples"]
            why = why or (
                f"the recording ends at sample {first + x.size}, the window at {first + body['n_samples']}"
                if short
                else f"digest of samples {first} to {first + x.size - 1} is {digest_of(x, step)}, "
                f"the record says {body['audio_digest']}"
            )
        return Finding("audio differs", (why,))

    def _same_makers(self, body: Mapping[str, Any]) -> None:
        if body["bundle"] != self._bundle.id:
            raise BundleError(f"the record was made by bundle {body['bundle']}, this is {self._bundle.id}: --bundle")
        if body["calibration_id"] != self._site.id:
            raise ConfigError(
                f"the record was made with site calibration {body['calibration_id'] or 'none'}, in force here is "
                f"{self._site.id or 'none'}{f' ({self._site.problem})' if self._site.problem else ''}: "
                "give the daemon's settings with --config"
            )

    def _step(self, body: Mapping[str, Any]) -> int:
        """Samples between slots of the grid, as the record has it."""
        step = self._spec.step(body["fs"])
        if body["grid_index"] and body["first_sample"] != body["grid_index"] * step:
            hop_s = body["first_sample"] / body["grid_index"] / body["fs"]
            raise ConfigError(
                f"the record is of windows every {hop_s:g} s, the settings say {self._spec.step_s:g} s: "
                "give the daemon's settings with --config"
            )
        return step

    def _places(self, body: Mapping[str, Any], recording: Recording) -> Iterator[int]:
        """Where the window may begin: at its sample, if the recording is the stream; else around its time."""
        yield body["first_sample"]
        start = recording.start
        if start is None or body["t_first_sample_ns"] is None:
            return
        near = round((body["t_first_sample_ns"] - start.t_ns) * body["fs"] / 1e9)
        doubt_ns = start.resolution_ns + ((body["clock"] or {}).get("est_error_ns") or 0)
        reach = 1 + round(doubt_ns * body["fs"] / 1e9)
        for k in range(reach + 1):
            for first in {near + k, near - k}:
                if first >= 0 and first != body["first_sample"]:
                    yield first

    def _result(self, record: Message, x: F32, at_sample: int) -> Finding:
        """Of the same sound: whether the same comes out."""
        for made, signature in self._made(record, x):
            if made.topic == record.topic:
                details = differences(record, made, self.tolerance, self._score(signature), self._limit(record))
                return Finding("result differs" if details else "equal", tuple(details), at_sample)
        return Finding("result differs", (f"no record on {record.topic} comes out",), at_sample)

    def _made(self, record: Message, x: F32) -> Iterator[tuple[Message, Signature | None]]:
        body = record.body
        pipeline = self._composition.pipeline()
        pipeline.leave_out(body.get("overload_step", 0))
        identity = Identity(body["node"], body["publisher"], body["bundle"], body["calibration_id"])
        recorder = Recorder(identity, self._spec, self._bundle.labels)
        name = body["source"]
        for event in (
            StreamStart(name, 0, body["fs"], (body["channel"],)),
            AudioBlock(name, 0, 0, body["fs"], x[None]),
            StreamEnd(name, 0, x.size, final=True),
        ):
            for made in pipeline.process(event):
                for message in recorder.process(made):
                    yield message, made if isinstance(made, Signature) else None

    def _score(self, signature: Signature | None) -> F32 | None:
        """The map that was thresholded, where there is one."""
        if signature is None or signature.mode != "signature":
            return None
        return next((d.score for d in signature.verdict.detections if d.label == signature.label), None)

    def _limit(self, record: Message) -> float:
        label, site = str(record.body.get("label")), self._site.calibration
        if site is not None and record.body["channel"] in site.channels:
            return float(site.channels[record.body["channel"]].scores(self._nominal).get(label, np.nan))
        return float(self._composition.limits.score.get(label, np.nan))
