"""The stages between source and records, composed from settings and bundle: what a daemon and an archive run share."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.config import ChecksConfig, Config
from daemon.contact_gate import EffectiveRule, effective_rule
from daemon.contacts import Contacts
from daemon.extract import UNKNOWN, Limits, Own
from daemon.pipeline import Pipeline, with_hop
from daemon.site_extract import SiteExtractor
from daemon.site_state import Site
from models.bundle import Bundle
from models.check import CheckedExplainer
from models.demon import DemonSpec
from models.engines.base import Engine
from models.engines.proved import ProvedEngine
from models.errors import ConfigError
from models.explainer import GRAPHS, Explainer, graphs_of
from models.features import FeatureSpec

__all__ = ["Composition"]


@dataclass(frozen=True, slots=True)
class Composition:
    """All that the settings ask for; `pipeline` gives a fresh chain of it, with no memory of another stream."""

    spec: FeatureSpec
    explainer: Explainer
    full: Explainer | None
    """The slow explanation that the live one is held against; None: nothing stands in for it, or no check is wanted."""
    check_every: int
    limits: Limits
    extractor: SiteExtractor
    rule: EffectiveRule
    demon: DemonSpec | None
    """None: not wanted."""
    checks: ChecksConfig | None = None
    """None: not wanted."""

    @classmethod
    def of(cls, config: Config, bundle: Bundle, engine: Engine, site: Site) -> Composition:
        """Compose.

        Raises
        ------
        ConfigError
            If settings and bundle do not go together.
        """
        spec, wanted = with_hop(bundle.spec, config.window.hop_s), config.extract
        limits = Limits.of(bundle.thresholds, wanted.nominal, wanted.line_snr_db, wanted.n_lines_unknown)
        if wanted.mode == "vessel" and limits.vessel is None:
            raise ConfigError("extract.mode = 'vessel': this bundle has no line templates; calibrate it anew")
        rule = effective_rule(config, bundle)
        own = None if site.own_ship is None else Own(site.own_ship, max(1.0, rule.rule.hold_gate(UNKNOWN)))
        extractor = SiteExtractor(spec, limits, wanted.nominal, site.calibration, wanted.mode, own)
        engine = ProvedEngine(engine, bundle)
        explain = config.explanation
        slow_anyway = explain.mode == "full" or explain.check_every == 0 or len(graphs_of(bundle)) == len(GRAPHS)
        full = None if slow_anyway else Explainer(bundle, engine, "full")
        wanted_demon = config.demon
        demon = DemonSpec(window_s=wanted_demon.window_s, step_s=wanted_demon.step_s) if wanted_demon.enabled else None
        explainer = Explainer(bundle, engine, explain.mode)
        checks = config.checks if config.checks.enabled else None
        return cls(spec, explainer, full, explain.check_every, limits, extractor, rule, demon, checks)

    def pipeline(self, *, live: bool = False) -> Pipeline:
        """A chain for one source; ``live`` as of `daemon.pipeline.Pipeline`."""
        explainer: Explainer | CheckedExplainer = self.explainer
        if self.full is not None:
            explainer = CheckedExplainer(self.explainer, self.full, self.limits.score, self.check_every)
        return Pipeline(
            self.spec,
            explainer,
            self.extractor,
            Contacts(self.spec, self.rule.rule),
            self.demon,
            self.checks,
            live=live,
        )
