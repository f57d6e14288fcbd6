"""Extraction with the thresholds of a site: each channel by its own, others by the bundle's."""

from __future__ import annotations

import dataclasses
import logging

from calibration.site import SiteCalibration
from daemon.extract import ExtractMode, Extractor, Limits, Own
from daemon.frames import Signature, TonalLine, Verdict, Window
from models.features import FeatureSpec

__all__ = ["SiteExtractor"]

_LOGGER = logging.getLogger(__name__)


class SiteExtractor(Extractor):
    """An `Extractor` per channel; stateless but for the calibration in force.

    Parameters
    ----------
    limits : Limits
        The bundle's own, for channels without a calibration.
    nominal : str
        Level at which the site's thresholds are taken.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        limits: Limits,
        nominal: str,
        site: SiteCalibration | None = None,
        mode: ExtractMode = "signature",
        own: Own | None = None,
    ) -> None:
        super().__init__(spec, limits, mode, own)
        self._of_bundle, self._nominal = limits, nominal
        self.use(site)

    def use(self, site: SiteCalibration | None) -> None:
        """Put another calibration in force, between two windows."""
        self._by_channel: dict[str, Extractor] = {}
        self._told: set[str] = set()
        self._has_site = site is not None
        if site is None:
            return
        for channel, c in site.channels.items():
            vessel = c.vessel[self._nominal].value if c.vessel else self._of_bundle.vessel
            limits = dataclasses.replace(self._of_bundle, score=c.scores(self._nominal), vessel=vessel)
            self._by_channel[channel] = Extractor(self._spec, limits, self._mode, self._own)

    def process(self, window: Window, verdict: Verdict) -> tuple[list[Signature], tuple[TonalLine, ...]]:
        """Signatures of one window, and all lines found in it, by the thresholds of its channel."""
        extractor = self._by_channel.get(window.channel)
        if extractor is not None:
            return extractor.process(window, verdict)
        if self._has_site and window.channel not in self._told:
            self._told.add(window.channel)
            _LOGGER.warning(
                "channel %s is not in the site calibration (%s): the bundle's own thresholds serve for it",
                window.channel, ", ".join(self._by_channel),
            )  # fmt: skip
        return super().process(window, verdict)
