"""What learning the own ship is worth, on the simulated ocean: ``python -m daemon.measure.own_ship``.

Synthetic: an own ship here is a dozen steady machinery lines (a harmonic family and single ones, in-bin SNR 6 to 20 dB,
wandering by 0.02 %) added to simulated recordings; sea and vessels are those of scenario ``standard``, space ``test``.
Lines are learned from a recording of the same own ship on a source-free sea of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.ocean import AMBIENT, SimulatedRecording, scenario_named, simulate
from calibration.own_ship import OwnShip
from calibration.own_ship_learn import learn
from daemon.compose import Composition
from daemon.config import Config, DemonConfig
from daemon.frames import Analysed, AudioBlock, Contact, Record, Signature, StreamEnd, StreamStart
from daemon.own_ship_heard import heard_windows
from daemon.site_state import Site
from models.bundle import Bundle
from models.engines import open_engine
from models.engines.base import Engine
from models.explainer import graphs_of
from models.features import windows_of
from models.tracks import TrackFinder

__all__ = ["Machinery", "main"]

F32 = npt.NDArray[np.float32]
FS = 2000
LEARN_S, LISTEN_S = 300.0, 60.0
CONDITIONS = ("no own ship", "not learned", "learned")


@dataclass(frozen=True, slots=True)
class Machinery:
    """Lines of an own ship."""

    freq_hz: tuple[float, ...]
    snr_db: tuple[float, ...]
    """In-bin, over the sea alone."""

    @classmethod
    def drawn(cls, rng: np.random.Generator, n_single: int = 7, n_family: int = 5) -> Machinery:
        """A family of a generator or gear, and single pumps and fans."""
        f0 = float(rng.uniform(23.0, 60.0))
        freq = [*(f0 * k for k in range(1, n_family + 1)), *rng.uniform(20.0, 450.0, n_single).tolist()]
        return cls(tuple(freq), tuple(rng.uniform(6.0, 20.0, len(freq)).tolist()))

    def with_lines_of(self, recording: SimulatedRecording, n: int) -> Machinery:
        """The same, and lines where the ``n`` clearest of the vessel in ``recording`` are."""
        of = [t for t in recording.truth.lines if t.label is not None and 20.0 < float(np.median(t.f_hz)) < 450.0]
        best = sorted(of, key=lambda t: -float(np.median(t.snr_db)))[:n]
        return Machinery(
            (*self.freq_hz, *(float(np.median(t.f_hz)) for t in best)), (*self.snr_db, *([12.0] * len(best)))
        )

    def on(self, x: F32, background: F32, bin_hz: float, rng: np.random.Generator) -> F32:
        """``x`` ``(n,)`` with the lines on it; ``background`` ``(n_freq,)`` is that of the sea, dB in a bin."""
        t = np.arange(x.size) / FS
        y = x.astype(np.float64)
        for f, snr in zip(self.freq_hz, self.snr_db, strict=True):
            knots = np.arange(0.0, t[-1] + 20.0, 10.0)
            wander = np.interp(t, knots, rng.normal(0.0, 2e-4, knots.size))
            phase = 2 * np.pi * np.cumsum(f * (1.0 + wander)) / FS
            level = float(background[round(f / bin_hz)]) + snr
            y += np.sqrt(2.0) * 10.0 ** (level / 20.0) * np.cos(phase + rng.uniform(0.0, 2 * np.pi))
        return np.asarray(y, np.float32)


@dataclass(slots=True)
class Heard:
    """What came of recordings under one condition."""

    n_windows: int = 0
    unknown_windows: int = 0
    own_windows: int = 0
    unknown_contacts: int = 0
    class_contacts: int = 0
    targets: int = 0
    """Recordings in which a contact of the true class started."""
    targets_or_unknown: int = 0
    """Recordings in which one of the true class or of ``unknown`` did."""

    def add(self, records: Sequence[Record], target: str | None) -> None:
        starts = Counter(r.label for r in records if isinstance(r, Contact) and r.event == "start")
        self.n_windows += sum(isinstance(r, Analysed) for r in records)
        alarms = [r for r in records if isinstance(r, Signature) and not r.own_ship]
        self.unknown_windows += sum(r.label == "unknown" for r in alarms)
        self.own_windows += sum(isinstance(r, Analysed) and r.own_ship for r in records)
        self.targets_or_unknown += bool(target and (starts[target] or starts["unknown"]))
        self.unknown_contacts += starts.pop("unknown", 0)
        self.targets += bool(starts.pop(target, 0)) if target else 0
        self.class_contacts += sum(starts.values())


def _heard() -> dict[str, Heard]:
    return {c: Heard() for c in CONDITIONS}


@dataclass(slots=True)
class Trial:
    """Own ships, seas and vessels, under each condition."""

    bundle: Bundle
    engine: Engine
    empty: dict[str, Heard] = field(default_factory=_heard)
    vessels: dict[str, Heard] = field(default_factory=_heard)
    overlapped: dict[str, Heard] = field(default_factory=_heard)
    snr_db: list[float] = field(default_factory=list)
    n_lines: list[int] = field(default_factory=list)
    n_learned: list[int] = field(default_factory=list)

    def run(self, n_ships: int) -> Iterator[str]:
        """One line of progress for each own ship."""
        scenario = scenario_named("standard")
        labels = [c.label for c in scenario.classes]
        for k in range(n_ships):
            rng = np.random.default_rng(9000 + k)
            machinery = Machinery.drawn(rng)
            own = self.learned(machinery, 9000 + 100 * k, rng)
            self.n_lines.append(len(machinery.freq_hz))
            self.n_learned.append(len(own.channels["ch0"]))
            for i in range(4):
                sea = simulate(scenario, "test", 9001 + 100 * k + i, AMBIENT, LISTEN_S, FS)
                self.listen(self.empty, sea, None, machinery, own, rng)
                vessel = simulate(scenario, "test", 9001 + 100 * k + i, labels[i % len(labels)], LISTEN_S, FS)
                self.snr_db += [float(np.median(t.snr_db)) for t in vessel.truth.lines if t.label is not None]
                self.listen(self.vessels, vessel, vessel.label, machinery, own, rng)
                both = machinery.with_lines_of(vessel, 3)
                also = self.learned(both, 9050 + 100 * k + i, rng)
                self.listen(self.overlapped, vessel, vessel.label, both, also, rng)
            yield f"own ship {k + 1} of {n_ships}: {len(own.channels['ch0'])} of {len(machinery.freq_hz)} lines learned"

    def learned(self, machinery: Machinery, index: int, rng: np.random.Generator) -> OwnShip:
        """From five minutes on a sea of their own."""
        sea = simulate(scenario_named("standard"), "test", index, AMBIENT, LEARN_S, FS)
        x = machinery.on(sea.x[0], self.background(sea.x[0]), self.bundle.spec.bin_hz, rng)
        found = heard_windows(x[None], FS, ("ch0",), self.bundle.spec)
        return OwnShip.now(self.bundle, "simulated", 1.0, {"ch0": learn(found["ch0"], 1.0, 0.5)}, 1)

    def listen(
        self,
        into: dict[str, Heard],
        recording: SimulatedRecording,
        target: str | None,
        machinery: Machinery,
        own: OwnShip,
        rng: np.random.Generator,
    ) -> None:
        """The same sound three times: without an own ship, with one that is not known, with one that is."""
        x = recording.x[0]
        noisy = machinery.on(x, self.background(x), self.bundle.spec.bin_hz, rng)
        for condition, y, site in zip(
            CONDITIONS, (x, noisy, noisy), (Site(None), Site(None), Site(None, own_ship=own)), strict=True
        ):
            into[condition].add(self.records(y, site), target)

    def records(self, x: F32, site: Site) -> list[Record]:
        """All records of one recording through the daemon's own stages."""
        pipeline = Composition.of(Config(demon=DemonConfig(enabled=False)), self.bundle, self.engine, site).pipeline()
        events = StreamStart("s", 0, FS, ("ch0",)), AudioBlock("s", 0, 0, FS, x[None]), StreamEnd("s", 0, x.size, True)
        return [r for event in events for r in pipeline.process(event)]

    def background(self, x: F32) -> F32:
        """Level of the background in each row's bin ``(n_freq,)``, dB re full scale squared, of the first window."""
        spec = self.bundle.spec
        w = next(windows_of(spec, FS, x[None, : 2 * spec.n_samples(FS)]))
        return TrackFinder(spec).find(w.spectrum_db[0]).background_db


def table(trial: Trial) -> str:
    """Markdown."""
    lines = [
        "| on the hydrophone | own ship | windows | `unknown` windows | `unknown` contacts | contacts of another class "
        "| vessels whose contact started | or one of `unknown` |",
        "|---|---|---|---|---|---|---|---|",
    ]
    parts = (
        ("empty sea", trial.empty), ("a vessel", trial.vessels),
        ("a vessel, three of its lines the own ship's, too", trial.overlapped),
    )  # fmt: skip
    for name, of in parts:
        n = of[CONDITIONS[0]].n_windows
        for c in CONDITIONS:
            h = of[c]
            n_of = 4 * len(trial.n_lines)
            seen = " | " if of is trial.empty else f"{h.targets} of {n_of} | {h.targets_or_unknown} of {n_of}"
            lines.append(
                f"| {name} | {c} | {n} | {h.unknown_windows} ({h.unknown_windows / max(n, 1):.1%}) | "
                f"{h.unknown_contacts} | {h.class_contacts} | {seen} |"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m daemon.measure.own_ship", description=__doc__)
    parser.add_argument("--ships", type=int, default=10, help="own ships (default: 10)")
    parser.add_argument("--json", type=Path, help="also write the figures")
    args = parser.parse_args(argv)
    bundle = Bundle.load(Bundle.shipped())
    engine, _ = open_engine(bundle, "auto", max_batch=32, graphs=graphs_of(bundle))
    try:
        trial = Trial(bundle, engine)
        for words in trial.run(args.ships):
            sys.stderr.write(words + "\n")
    finally:
        engine.close()
    sys.stdout.write(
        f"{table(trial)}\n\n{args.ships} own ships of {np.mean(trial.n_lines):.0f} lines, "
        f"{np.mean(trial.n_learned):.1f} bands learned on average; vessels' lines: median in-bin SNR "
        f"{np.median(trial.snr_db):.1f} dB (10 % to 90 %: {np.quantile(trial.snr_db, 0.1):.1f} to "
        f"{np.quantile(trial.snr_db, 0.9):.1f} dB)\n"
    )
    if args.json is not None:
        of = {"empty": trial.empty, "vessels": trial.vessels, "overlapped": trial.overlapped}
        told = {name: {c: dataclasses.asdict(h) for c, h in d.items()} for name, d in of.items()}
        args.json.write_text(json.dumps({"bundle": bundle.id, "n_ships": args.ships, **told}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
