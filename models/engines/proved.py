"""An engine that goes on proving itself: its answers are looked at, and now and then it meets a golden window again.

The test at load (`models.engines.golden`) says nothing of what comes after: memory goes bad, a driver recovers halfway,
a card overheats. So every answer must be finite, and of every ``every`` calls of a graph one is preceded by one golden
window of that graph, a different one each time. An engine that fails either may not serve any longer: it raises, the
process ends, and the test at the next load decides which engine takes over.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.engines import golden
from models.engines.base import Engine, Tensors
from models.errors import EngineError

__all__ = ["ProvedEngine"]

#: Calls between two golden windows: of a live source about a minute; they cost less than two in a hundred calls.
EVERY: Final = 60


class ProvedEngine:
    """Another engine, watched; implements :class:`models.engines.base.Engine`.

    Parameters
    ----------
    engine : Engine
        Already opened and proved; closed with this one.
    bundle : Bundle
        What it serves.
    every : int
        Calls of a graph between two golden windows.
    """

    def __init__(self, engine: Engine, bundle: Bundle, every: int = EVERY) -> None:
        if every < 1:
            raise ValueError(f"{every=} is not positive")
        self._engine, self._bundle, self._every = engine, bundle, every
        self.name, self.precision, self.device = engine.name, engine.precision, engine.device
        self.max_batch, self.graphs = engine.max_batch, engine.graphs
        self._n_calls = dict.fromkeys(engine.graphs, 0)

    def run(self, graph: str, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """As the engine does, once it has proved itself again if that is due.

        Raises
        ------
        EngineError
            As the engine raises it; if it misses a golden window; if an answer holds what is no finite number.
        """
        n = self._n_calls[graph] = self._n_calls.get(graph, 0) + 1
        if n % self._every == 0 and graph in self.graphs:  # before the call: answers may be views of its buffers
            window = n // self._every % self._bundle.manifest.n_golden
            found = golden.difference_of(self._engine, self._bundle, graph, window)
            if why := golden.miss(self._engine, self._bundle, graph, found):
                raise EngineError(
                    f"{why}; it did at its start: what it said in its last {self._every} calls is doubtful"
                )
        out = self._engine.run(graph, tensors)
        for name, a in out.items():
            if a.dtype.kind == "f" and not np.isfinite(a.sum()):  # a sum costs a third of looking at each
                raise EngineError(
                    f"{self.name} ({self.precision}) answered numbers that are not finite: graph {graph}, {name}; "
                    "restart it, or choose another engine (engine.name)"
                )
        return out

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
