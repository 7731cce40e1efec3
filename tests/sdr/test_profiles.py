"""Every link profile in configs/, end to end through the software channel and near its limits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sdr.framing import side_repetition
from sdr.waveform import load_waveform
from tests.sdr.helpers import mean_error, passage, receive

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Limits:
    lowest_snr_db: float
    """Where at least 99 % of packets still come."""
    loss_db: float
    """Implementation loss there."""


PROFILES = {
    "default": Limits(-2.0, 0.5),
    "2msps": Limits(-2.0, 0.5),
    "64carrier": Limits(0.0, 0.6),  # four pilots only
    "robust": Limits(-6.0, 0.5),
}


def test_every_profile_has_its_row() -> None:
    assert {path.stem.removeprefix("link_") for path in CONFIGS.glob("link_*.yaml")} == set(PROFILES)


@pytest.mark.parametrize("name", PROFILES)
def test_name_and_cfo_range(name: str) -> None:
    """100 kHz is what two HackRF are apart at 2.45 GHz."""
    waveform = load_waveform(CONFIGS / f"link_{name}.yaml")
    assert waveform.name == name
    assert waveform.sample_rate_hz / (2 * waveform.short_period) >= 125e3
    assert waveform.sample_rate_hz >= 2e6


@pytest.mark.parametrize("name", PROFILES)
def test_packets_come_at_the_lowest_snr(name: str) -> None:
    """20 packets at 99 % each: three lost would be a chance of 1 in 1000."""
    waveform, limits = load_waveform(CONFIGS / f"link_{name}.yaml"), PROFILES[name]
    received, expected, errors = 0, 0, []
    for seed in range(5):
        sent = passage(
            seed,
            waveform=waveform,
            snr_db=limits.lowest_snr_db,
            cfo_hz=[-120e3, -61e3, 0.0, 37e3, 120e3][seed],
            sfo_ppm=10.0,
            repetition=side_repetition(limits.lowest_snr_db, 40),
        )
        (image,) = receive(sent.samples, waveform)
        assert image.side == sent.side
        assert image.snr_db == pytest.approx(limits.lowest_snr_db, abs=0.6)
        errors.append(mean_error(sent.symbols, image))
        received, expected = received + image.packets_received, expected + image.packets_expected
    assert expected >= 20 and received >= expected - 2
    assert 10 * np.log10(np.mean(errors)) + limits.lowest_snr_db < limits.loss_db


@pytest.mark.parametrize("name", PROFILES)
def test_symbols_are_good_at_a_high_snr(name: str) -> None:
    waveform = load_waveform(CONFIGS / f"link_{name}.yaml")
    sent = passage(7, waveform=waveform, snr_db=22.0, cfo_hz=-98e3, sfo_ppm=40.0)
    (image,) = receive(sent.samples, waveform)
    assert image.packets_received == image.packets_expected
    assert image.cfo_hz == pytest.approx(-98e3, abs=5) and image.sfo_ppm == pytest.approx(40, abs=2)
    assert 10 * np.log10(mean_error(sent.symbols, image)) + 22 < 0.4


@pytest.mark.parametrize("name", PROFILES)
def test_echoes_within_the_prefix(name: str) -> None:
    waveform = load_waveform(CONFIGS / f"link_{name}.yaml")
    for seed in range(2):
        sent = passage(seed, name="four-tap", waveform=waveform, snr_db=18.0, cfo_hz=45e3, sfo_ppm=-20.0)
        (image,) = receive(sent.samples, waveform)
        assert image.packets_received == image.packets_expected
        assert image.side == sent.side
        arrived = np.isfinite(image.noise_var)
        claimed = np.mean(np.abs(image.symbols - sent.symbols)[arrived] ** 2 / image.noise_var[arrived])
        assert 10 * np.log10(claimed) == pytest.approx(0, abs=0.5)
