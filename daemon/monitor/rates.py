"""Rates of the last seconds, from counts that only grow."""

from __future__ import annotations

from collections import deque

from daemon.service import Service

__all__ = ["Rates"]

SPAN_S = 10.0


class Rates:
    """Per second, over about `SPAN_S`."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, dict[str, float]]] = deque()

    def look(self, service: Service, now_s: float) -> dict[str, float]:
        """Look at the counts at ``now_s`` (CLOCK_MONOTONIC); how fast each grew.

        ``audio_s_per_s`` is 1 for live sound that is kept up with.
        """
        counts = service.counts
        state = service.publisher.state()
        seen: dict[str, float] = {
            "audio_s_per_s": counts.audio_s, "windows_per_s": counts.n_windows, "signatures_per_s": counts.n_signatures,
            "messages_per_s": state["n_sent"],
        }  # fmt: skip
        self._seen.append((now_s, seen))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= SPAN_S:
            self._seen.popleft()
        t_first, first = self._seen[0]
        elapsed = now_s - t_first
        return {name: (n - first[name]) / elapsed if elapsed > 0 else 0.0 for name, n in seen.items()}
