"""What settings and bundle amount to: everything that SIGHUP exchanges, as one.

Built whole or not at all: the bundle checked, the engine proved on its golden windows, the stages composed. Source,
publisher and what is written to disk are not part of it; they live as long as the daemon.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.chosen_bundle import chosen_bundle
from daemon.compose import Composition
from daemon.config import Config
from daemon.monitor.tally import Tally, TimedEngine
from daemon.pipeline import with_hop
from daemon.records import Recorder, info_message
from daemon.site_refresh import SiteEstimator
from daemon.site_state import Site, choose_site, tell
from daemon.wire import Identity, Message
from models.bundle import Bundle
from models.engines import EngineReport, open_engine
from models.engines.base import Engine
from models.errors import ConfigError
from models.explainer import graphs_of
from models.features import FeatureSpec

__all__ = ["InForce"]

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True)
class InForce:
    """Settings, bundle, engine, site and stages that go together."""

    config: Config
    bundle: Bundle
    engine: Engine
    report: EngineReport
    site: Site
    stages: Composition
    estimator: SiteEstimator | None
    """None: thresholds are not estimated anew while running."""

    @classmethod
    def open(
        cls,
        config: Config,
        progress: Callable[[str], None] | None = None,
        before: InForce | None = None,
        *,
        tally: Tally | None = None,
    ) -> InForce:
        """Build it; nothing is left open if that fails.

        Parameters
        ----------
        progress : callable, optional
            Called with one line now and then while an engine takes minutes to open.
        before : InForce, optional
            What serves now. Its engine is shared where bundle and engine settings are the same; if nothing at all has
            changed, it is itself what is returned.
        tally : Tally, optional
            Told of each call of the engine.

        Raises
        ------
        TonaldError
            If bundle, engine or site cannot be used, or not together with these settings.
        """
        bundle = chosen_bundle(config)
        site = choose_site(config, bundle)
        if before is not None:
            _refuse_what_got_worse(before, bundle, site)
            if config == before.config and bundle.id == before.bundle.id and site.id == before.site.id:
                return before
        shared = before is not None and bundle.id == before.bundle.id and _engine(config) == _engine(before.config)
        if shared and before is not None:
            engine, report = before.engine, before.report
        else:
            with_hop(bundle.spec, config.window.hop_s)  # an engine may take minutes; what cannot serve is refused first
            engine, report = open_engine(
                bundle,
                config.engine.name,
                max_batch=config.engine.max_batch,
                n_threads=config.engine.n_threads or os.cpu_count(),
                state_dir=Path(config.state_dir) if config.state_dir else None,
                graphs=graphs_of(bundle),
                progress=progress,
            )
        try:
            stages = Composition.of(config, bundle, engine if tally is None else TimedEngine(engine, tally), site)
        except BaseException:
            if not shared:
                engine.close()
            raise
        _LOGGER.log(logging.ERROR if site.problem else logging.INFO, "site calibration: %s", site.words())
        tell(site, stages.spec)
        refresh_s = 3600.0 * config.site.refresh_hours
        estimator = SiteEstimator(bundle, stages.explainer, refresh_s) if refresh_s else None
        if shared and before is not None and _estimates(config) == _estimates(before.config):
            estimator = before.estimator
        return cls(config, bundle, engine, report, site, stages, estimator)

    @property
    def spec(self) -> FeatureSpec:
        """Numbers of the front end, with the step between windows that is in use."""
        return self.stages.spec

    def refreshed(self, site: Site) -> None:
        """Put thresholds in force that were estimated while running."""
        self.site = site
        self.stages.extractor.use(site.calibration)

    def keep_newer(self, before: InForce) -> None:
        """Of thresholds that were refreshed since this was built, not lose those."""
        was, mine = before.site.calibration, self.site.calibration
        if self.bundle.id == before.bundle.id and was and mine and was.version > mine.version:
            self.refreshed(dataclasses.replace(self.site, calibration=was))

    def identity(self, of: Identity) -> Identity:
        """``of`` with this bundle and calibration."""
        return dataclasses.replace(of, bundle=self.bundle.id, calibration_id=self.site.id)

    def same_contacts(self, other: InForce) -> bool:
        """Whether a contact of one may go on under the other."""
        return (self.bundle.id, self.spec, self.stages.rule.rule) == (
            other.bundle.id, other.spec, other.stages.rule.rule
        )  # fmt: skip

    def recorder(self, identity: Identity) -> Recorder:
        """A recorder that speaks for it."""
        publish = self.config.publish
        return Recorder(
            identity, self.spec, self.bundle.labels,
            masks=publish.masks, explain=publish.explain, spectrogram=publish.spectrogram, levels=self.site.levels,
        )  # fmt: skip

    def info(self, identity: Identity, endpoints: Sequence[str]) -> Message:
        """What the daemon is with it, for ``info/``."""
        report, site = self.report, self.site
        return info_message(
            identity, self.spec, version=importlib.metadata.version("tonald"), labels=self.bundle.labels,
            engine=report.name, precision=report.precision, device=report.device, endpoints=endpoints,
            contacts=self.stages.rule.to_dict(), site=site.to_dict(), passed_over=report.reasons,
            hydrophones=site.levels.words(self.spec), own_ship=site.own_ship_words(),
        )  # fmt: skip

    def words(self) -> str:
        """What serves, in one line for people."""
        r = self.report
        return f"bundle {self.bundle.id} ({', '.join(self.bundle.labels)}), engine {r.name} ({r.precision})"


def _engine(config: Config) -> tuple[object, str]:
    """What an engine follows from, beside the bundle."""
    return config.engine, config.state_dir


def _estimates(config: Config) -> tuple[object, object]:
    """What the windows kept for new thresholds follow from, beside bundle and engine."""
    return config.site, config.explanation


def _refuse_what_got_worse(before: InForce, bundle: Bundle, site: Site) -> None:
    """A start serves as well as it can; a daemon that serves better than that already is left alone."""
    if bundle.id != before.bundle.id:
        return
    for was, problem in ((before.site.calibration, site.problem), (before.site.own_ship, site.own_ship_problem)):
        if was is not None and problem:
            raise ConfigError(problem)
