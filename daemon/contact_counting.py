"""The daemon's stages over whole recordings, ashore: how many contacts start, at any gate.

``listen`` runs the pipeline once and keeps of each window what contacts are made of; ``starts`` then runs the stage of
contacts itself over it, so that many gates cost one hearing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from calibration.experiments.falsealarms import Gates, Start
from daemon.config import Config
from daemon.contact_rule import ContactRule, kind_of, score_of
from daemon.contacts import Contacts
from daemon.extract import Extractor, Limits
from daemon.frames import Analysed, AudioBlock, Contact, Event, Record, Signature, StreamEnd, StreamStart
from daemon.pipeline import Pipeline, with_hop
from models.bundle import Bundle
from models.engines.base import Engine
from models.explainer import Explainer

__all__ = ["ContactCounter"]

BLOCK_S = 30
"""Fed at once: enough windows for one batch, few enough to keep their arrays."""
_NOTHING = np.zeros((1, 1), np.float32)
_NOTHING.setflags(write=False)


class ContactCounter:
    """Counts contact starts as `tonald run` would publish them; a `calibration.experiments.falsealarms.Listener`.

    Parameters
    ----------
    bundle : Bundle
    engine : Engine
    config : Config
        Of which windows, extraction and rule count; its gates do not.

    Raises
    ------
    ConfigError
        If the bundle does not allow the step between windows.
    """

    def __init__(self, bundle: Bundle, engine: Engine, config: Config) -> None:
        c = config.contacts
        self._rule = ContactRule(n_start=c.n_start, m=c.m, n_hold=c.n_hold)
        self._spec = with_hop(bundle.spec, config.window.hop_s)
        x = config.extract
        extractor = Extractor(
            self._spec, Limits.of(bundle.thresholds, x.nominal, x.line_snr_db, x.n_lines_unknown), x.mode
        )
        self._pipeline = Pipeline(self._spec, Explainer(bundle, engine), extractor)

    def listen(self, x: npt.NDArray[np.float32], fs: int) -> list[Record]:
        """Records of ``x`` ``(n_channels, n_samples)``, stripped of their arrays.

        Raises
        ------
        SampleRateError
            If the front end cannot use the rate.
        """
        self._spec.step(fs)  # a rate that cannot be used is refused here, not by a record that nobody reads
        n_channels, n_samples = x.shape
        n_block = BLOCK_S * fs
        events: list[Event] = [
            StreamStart("sea", 0, fs, tuple(f"ch{c}" for c in range(n_channels))),
            *(AudioBlock("sea", 0, i, fs, x[:, i : i + n_block]) for i in range(0, n_samples, n_block)),
            StreamEnd("sea", 0, n_samples, final=True),
        ]
        kept: list[Record] = []
        for event in events:
            for record in self._pipeline.process(event):
                kept.append(_stripped(record, kept))
        return kept

    def starts(self, heard: Sequence[Record], gates: Gates) -> list[Start]:
        """Contacts that start when windows have to pass ``gates``."""
        stage = Contacts(self._spec, dataclasses.replace(self._rule, class_gate=gates[0], unknown_gate=gates[1]))
        return [
            Start(c.label, (c.first_sample + c.n_samples) / c.fs)
            for record in heard
            for c in stage.process(record)
            if isinstance(c, Contact) and c.event == "start"
        ]

    def highest(self, heard: Sequence[Record]) -> Gates:
        """Highest score of any class and of ``unknown`` in any window; -inf where there is none."""
        top = {"class": -math.inf, "unknown": -math.inf}
        for record in heard:
            if isinstance(record, Signature):
                kind = kind_of(record.label)
                top[kind] = max(top[kind], score_of(record, self._spec.n_time * self._spec.column_s))
        return top["class"], top["unknown"]


def _stripped(record: Record, before: Sequence[Record]) -> Record:
    """The record without arrays; a signature shares the window of the last `Analysed` record, as it did."""
    if isinstance(record, Analysed):
        window = dataclasses.replace(
            record.window, features=_NOTHING, spectrum_db=_NOTHING, background_db=_NOTHING
        )  # fmt: skip
        verdict = dataclasses.replace(record.verdict, detections=(), tracks=None, own={})
        return dataclasses.replace(record, window=window, verdict=verdict, lines=())
    if isinstance(record, Signature):
        analysed = next(r for r in reversed(before) if isinstance(r, Analysed))
        return dataclasses.replace(
            record, window=analysed.window, verdict=analysed.verdict, mask=_NOTHING > 0.0
        )  # fmt: skip
    return record
