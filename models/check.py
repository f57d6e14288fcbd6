"""The live explanation held against the slow one, now and then: whether the student agrees with its teacher."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from models.explainer import Explainer
from models.verdict import Verdict

__all__ = ["CheckedExplainer", "agreement"]

F32 = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

#: Checks averaged, and mean agreement below which the log warns.
MEMORY, LEAST_AGREEMENT = 10, 0.7


def agreement(a: F32, b: F32, least: float) -> float:
    """Overlap (intersection over union) of two score maps' cells above ``least``; 1 where neither has any."""
    over_a, over_b = a > least, b > least
    either = int(np.count_nonzero(over_a | over_b))
    return int(np.count_nonzero(over_a & over_b)) / either if either else 1.0


class CheckedExplainer:
    """A live explainer whose every ``every``-th detection is explained in full, too.

    The check adds one slow explanation to every ``every`` windows with a detection; `Verdict.agreement` of the window
    checked holds the result, and a warning is logged when the mean of the last ``MEMORY`` checks falls below
    ``LEAST_AGREEMENT``, once until it recovers.

    Parameters
    ----------
    thresholds
        By label, score above which a cell belongs to it.
    """

    def __init__(self, live: Explainer, full: Explainer, thresholds: Mapping[str, float], every: int) -> None:
        if every < 1:
            raise ValueError(f"{every=} is not positive")
        self._live, self._full, self._thresholds, self._every = live, full, dict(thresholds), every
        self.reset()

    @property
    def max_batch(self) -> int:
        """Windows the engine takes at once."""
        return self._live.max_batch

    def reset(self) -> None:
        """Forget all checks."""
        self._n_detected = 0
        self._recent: list[float] = []
        self._warned = False

    def classify(self, features: F32 | Sequence[F32]) -> tuple[F32, F32]:
        """As `Explainer.classify`."""
        return self._live.classify(features)

    def explain(
        self,
        features: F32 | Sequence[F32],
        spectra_db: F32 | Sequence[F32] | None = None,
        *,
        by_network: bool = True,
    ) -> list[Verdict]:
        """As `Explainer.explain`; where the network explains nothing there is nothing to check."""
        verdicts = self._live.explain(features, spectra_db, by_network=by_network)
        if not by_network:
            return verdicts
        for i, verdict in enumerate(verdicts):
            if verdict.detections:
                self._n_detected += 1
                if self._n_detected % self._every == 0:
                    spectra = None if spectra_db is None else [spectra_db[i]]
                    (slow,) = self._full.explain([features[i]], spectra)
                    verdicts[i] = dataclasses.replace(verdict, agreement=self._noted(verdict, slow))
        return verdicts

    def _noted(self, live: Verdict, slow: Verdict) -> float:
        detection = live.detections[0]
        other = next((d for d in slow.detections if d.label == detection.label), None)
        least = self._thresholds[detection.label]
        value = 0.0 if other is None else agreement(detection.score, other.score, least)
        self._recent = [*self._recent, value][-MEMORY:]
        mean = sum(self._recent) / len(self._recent)
        low = len(self._recent) == MEMORY and mean < LEAST_AGREEMENT
        if low and not self._warned:
            log.warning(
                "live and full explanation agree in %.0f %% of their cells over the last %d checks (expected %.0f %% "
                "or more): calibrate on this site, or set explanation.mode = 'full'",
                100 * mean, MEMORY, 100 * LEAST_AGREEMENT,
            )  # fmt: skip
        self._warned = low
        return value
