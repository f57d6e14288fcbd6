"""Draw ``docs/images/demon.png``: ``python docs/demon_picture.py`` (needs the ``train`` extra)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from calibration.experiments.demon import FS, propeller
from models.demon import DemonFrontEnd, DemonSpec
from models.demon_lines import modulation, modulation_spectrum

SHAFT_HZ, N_BLADES, SEED = 1.9, 4, 11


def main() -> None:
    """One simulated propeller, from sound to shaft rate."""
    rng = np.random.default_rng(SEED)
    hiss = propeller(rng, SHAFT_HZ, N_BLADES, 0.4, 62.0)
    x = (0.01 * (hiss + rng.standard_normal(hiss.size))).astype(np.float32)
    w = list(DemonFrontEnd(DemonSpec(), FS, 1).process(x[None]))[-1]
    found = modulation(w.envelope[0], w.fs_mod)
    freq, z, _ = modulation_spectrum(w.envelope[0], w.fs_mod)
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    sound, envelope, spectrum = figure.subplots(3, 1, height_ratios=(1, 1, 1.6))
    t = np.arange(2 * FS) / FS
    sound.plot(t, x[: 2 * FS], lw=0.3, color="0.4")
    sound.set(title="what the hydrophone hears: hiss of a cavitating propeller, as loud as the sea", ylabel="sound")
    band = w.envelope[0].mean(axis=0)[: int(2 * w.fs_mod)]
    envelope.plot(np.arange(band.size) / w.fs_mod, band / band.mean(), color="C0", lw=1)
    envelope.set(title="how loud it is, 200 times a second", xlabel="s", ylabel="power / mean")
    spectrum.plot(freq, z, color="C0", lw=0.8)
    for line in found.lines:
        blade = line.harmonic % found.blades == 0
        spectrum.annotate(
            f"{line.harmonic}", (line.freq_hz, 1 + 10 ** (line.snr_db / 10)), ha="center", va="bottom",
            color="C3" if blade else "C2", fontsize=9,
        )  # fmt: skip
    spectrum.set(
        xlim=(0, 40),
        yscale="log",
        ylim=(0.4, 300),
        xlabel="modulation frequency, Hz",
        ylabel="over background",
        title=f"its spectrum: harmonics of the shaft (green), of the blades (red): {found.shaft_hz:.2f} Hz, "
        f"{found.blades} blades, {found.score:.0f} nats (true: {SHAFT_HZ} Hz, {N_BLADES}; SIMULATED)",
    )
    figure.savefig(Path(__file__).parent / "images" / "demon.png", dpi=80)


if __name__ == "__main__":
    main()
