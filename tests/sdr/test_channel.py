"""Conditions as data: names, files, and one line for what is wrong with them."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sdr.channel import Channel, load_channel, parse_channel
from sdr.errors import SdrError
from sdr.fading import CHANNELS
from sdr.impairments import apply_channel, draw_channel
from sdr.receive import Receiver
from sdr.waveform import DEFAULT
from tests.sdr.helpers import passage, receive

CONFIGS = Path(__file__).parents[2] / "configs"


def write(folder: Path, content: str) -> Path:
    path = folder / "air.yaml"
    path.write_text(content, encoding="utf-8")
    return path


def test_names_are_the_kinds_of_fading() -> None:
    for name in CHANNELS:
        assert parse_channel(name) == Channel(name)
    assert parse_channel("awgn") == Channel()


def test_everything_is_off_by_default() -> None:
    """What a name gives beside its fading is noise alone."""
    sent = passage(1, name="ideal")
    assert np.array_equal(sent.samples[: sent.transmission.samples.size], sent.transmission.samples)


@settings(max_examples=25)
@given(
    snr_db=st.floats(-10, 40),
    doppler_hz=st.floats(0, 5000),
    adc_bits=st.none() | st.integers(1, 24),
    jammer_db=st.none() | st.floats(-60, 60),
    fading=st.sampled_from(["tdl-a", "tdl-b", "tdl-c"]),
)
def test_a_file_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    fading: str,
    snr_db: float,
    doppler_hz: float,
    adc_bits: int | None,
    jammer_db: float | None,
) -> None:
    channel = Channel(fading, snr_db, doppler_hz=doppler_hz, adc_bits=adc_bits, jammer_db=jammer_db)
    path = write(tmp_path_factory.mktemp("channel"), yaml.safe_dump(asdict(channel)))
    assert load_channel(path) == channel == parse_channel(str(path))


def test_absent_keys_keep_their_defaults_and_whole_numbers_serve(tmp_path: Path) -> None:
    channel = load_channel(write(tmp_path, "fading: rayleigh\nsnr_db: 7\n"))
    assert channel == Channel("rayleigh", 7.0) and isinstance(channel.snr_db, float)
    assert load_channel(write(tmp_path, "{}")) == Channel()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("colour: red", ("air.yaml", "unknown key colour", "jammer_bandwidth_hz")),
        ("fading: fog", ("air.yaml", "unknown channel 'fog'", "tdl-a")),
        ("snr_db: loud", ("air.yaml", "snr_db must be float", "'loud'")),
        ("snr_db: null", ("snr_db must be float", "None")),
        ("delay_spread_s: 1e-7", ("delay_spread_s", "1.0e-6")),
        ("adc_bits: 8.5", ("adc_bits must be int",)),
        ("adc_bits: true", ("adc_bits must be int",)),
        ("adc_bits: 0", ("adc_bits must lie in 1…24",)),
        ("loss: 2", ("air.yaml", "loss must lie in 0…1")),
        ("snr_db: .nan", ("snr_db must lie in",)),
        ("doppler_hz: 10", ("'awgn' takes no doppler_hz", "tdl-a")),
        ("- 1", ("mapping",)),
        ("a: [", ("not valid YAML",)),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, content: str, words: tuple[str, ...]) -> None:
    with pytest.raises(SdrError) as caught:
        load_channel(write(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_what_is_neither_name_nor_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SdrError, match=r"unknown channel 'water'; known are .*awgn.* or a YAML file"):
        parse_channel("water")
    with pytest.raises(SdrError, match="cannot read channel"):
        parse_channel(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"snr_db": 41.0}, "snr_db"),
        ({"snr_db": -10.5}, "snr_db"),
        ({"snr_db": float("nan")}, "snr_db"),
        ({"sfo_ppm": 1000.0}, "sfo_ppm"),
        ({"loss": 1.1}, "loss"),
        ({"loss": -0.1}, "loss"),
        ({"fading": "tdl-a", "delay_spread_s": 1.0}, "delay_spread_s"),
        ({"phase_noise_hz": -1.0}, "phase_noise_hz"),
        ({"pa_smoothness": 0.0}, "pa_smoothness"),
        ({"burst_duty": 1.5}, "burst_duty"),
        ({"burst_s": 0.0}, "burst_s"),
    ],
)
def test_out_of_range_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(SdrError, match=word):
        Channel(**change)


@pytest.mark.parametrize("change", [{"cfo_hz": 3e6}, {"jammer_hz": -3e6}, {"jammer_bandwidth_hz": 5e6}])
def test_frequencies_must_lie_in_the_band_of_the_waveform(change: dict[str, Any]) -> None:
    with pytest.raises(SdrError, match=next(iter(change))):
        draw_channel(Channel(**change), DEFAULT, 1, np.random.default_rng(0))


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("channel_*.yaml")), ids=lambda path: path.stem)
def test_shipped_conditions_load_and_can_be_sent_through(file: Path) -> None:
    channel = load_channel(file)
    assert set(yaml.safe_load(file.read_text(encoding="utf-8"))) <= {field.name for field in fields(Channel)}
    sent = passage(3).transmission
    drawn = draw_channel(channel, DEFAULT, len(sent.packets), np.random.default_rng(1))
    received = apply_channel(sent.samples, sent.packets, drawn)
    assert received.dtype == np.complex64 and np.all(np.isfinite(received))
    receiver = Receiver(DEFAULT)
    receiver.push(received)
    receiver.flush()


def test_the_lab_is_one_that_a_receiver_copes_with() -> None:
    conditions = asdict(load_channel(CONFIGS / "channel_lab.yaml"))
    fading = conditions.pop("fading")
    images = [receive(passage(seed, name=fading, **conditions).samples) for seed in range(4)]
    assert sum(image.packets_received for found in images for image in found) >= 15  # of 16
