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
from pathlib import Path
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
"""Places around its time at which the first record of a stream is looked for."""


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
        self._shifts: dict[
            tuple[Path, str, str, int], int
        ] = {}  # of a stream in a recording: found once, known for all
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
        step, n = self._step(body), body["n_samples"]
        stream = (recording.path, body["publisher"], body["source"], body["epoch"])
        why = ""
        for first in self._places(body, recording, self._shifts.get(stream)):
            x = recording.read(first, n, body["channel"])
            digest = digest_of(x, step)
            if x.size == n and digest == body["audio_digest"]:
                self._shifts[stream] = first - body["first_sample"]
                return self._result(record, x, first)
            why = why or f"digest of samples {first} to {first + n - 1} is {digest}, the record says " + str(
                body["audio_digest"]
            )
        begin = body["first_sample"] + self._shifts.get(stream, 0)
        why = why or f"the recording of {recording.n_samples} samples does not hold samples {begin} to {begin + n - 1}"
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

    def _places(self, body: Mapping[str, Any], recording: Recording, shift: int | None) -> Iterator[int]:
        """Where the window may begin: at its sample, if the recording is the stream; else around its time.

        Of a file with the daemon's own side-car the place is known, if it is of the same stream.

        ``shift``: how far from there another window of the stream was found; no other place is then looked at.
        """
        first, last = body["first_sample"], recording.n_samples - body["n_samples"]
        places = [first] if shift is None else [first + shift]
        start, take = recording.start, recording.take
        if take is not None and (take.stamp.stream, take.epoch) == (body["publisher"], body["epoch"]):
            places, start = [first - take.first_sample], None
        if shift is None and start is not None and body["t_first_sample_ns"] is not None:
            near = round((body["t_first_sample_ns"] - start.t_ns) * body["fs"] / 1e9)
            doubt_ns = start.resolution_ns + ((body["clock"] or {}).get("est_error_ns") or 0)
            reach = min(1 + round(doubt_ns * body["fs"] / 1e9), MAX_TRIES // 2)
            places += [near, *(near + sign * k for k in range(1, reach + 1) for sign in (1, -1))]
        yield from (place for place in dict.fromkeys(places) if 0 <= place <= last)

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
        recorder = Recorder(identity, self._spec, self._bundle.labels, levels=self._site.levels)
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
