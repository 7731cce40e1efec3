"""Makes docs/inspect.png: random symbols through fading, a jammer and phase noise, as `lrisc inspect` shows them.

Usage: python scripts/inspect_picture.py docs/inspect.png
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from sdr.channel import Channel
from sdr.impairments import apply_channel, draw_channel
from sdr.recording import write_recording
from sdr.transmit import transmit
from sdr.waveform import DEFAULT

CONDITIONS = Channel(
    fading="tdl-b",
    snr_db=22,
    delay_spread_s=300e-9,
    doppler_hz=40,
    cfo_hz=-21e3,
    sfo_ppm=15,
    phase_noise_hz=10,
    loss=0.15,
    jammer_db=-15,
    jammer_hz=-7e5,
    jammer_bandwidth_hz=5e4,
)


def main() -> None:
    """Write the picture to the path given."""
    rng = np.random.default_rng(4)
    symbols = rng.standard_normal((28_000, 2)) @ np.array([1, 1j])
    symbols /= np.sqrt(np.mean(np.abs(symbols) ** 2))
    sent = transmit(symbols.astype(np.complex64), b"side", DEFAULT, session=1, image_id=0, repetition=2)
    air = draw_channel(CONDITIONS, DEFAULT, len(sent.packets), rng)
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "tdl_b.sigmf-meta"
        write_recording(recording, apply_channel(sent.samples, sent.packets, air), DEFAULT, (), {})
        subprocess.run([sys.executable, "-m", "lrisc", "inspect", str(recording), "--out", folder], check=True)
        with Image.open(Path(folder) / "inspect.png") as picture:  # 256 colours halve the file
            picture.quantize(256, dither=Image.Dither.NONE).save(sys.argv[1], optimize=True)


if __name__ == "__main__":
    main()
