"""Numerology, its YAML, and what the transmitter makes of it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sdr import ofdm
from sdr.errors import SdrError
from sdr.transmit import PacketSpan, transmit
from sdr.waveform import DEFAULT, Waveform, load_waveform
from tests.sdr.helpers import gaussian

CONFIGS = Path(__file__).parents[2] / "configs"


def test_shipped_file_is_the_default() -> None:
    assert load_waveform(CONFIGS / "link_default.yaml") == DEFAULT


def test_numerology() -> None:
    assert (DEFAULT.used_subcarriers, DEFAULT.data_carriers, DEFAULT.packet_capacity) == (176, 160, 4800)
    assert DEFAULT.packet_samples(30) == 320 + 64 + 512 + 34 * 288
    assert DEFAULT.channel_uses(256) == 176


def test_carriers_and_pilots() -> None:
    layout = ofdm.grid(DEFAULT)
    assert 0 not in layout.carriers
    assert np.array_equal(np.sort(np.concatenate([layout.data, layout.pilot])), np.arange(176))
    assert np.array_equal(layout.carriers[layout.pilot], -layout.carriers[layout.pilot][::-1])
    assert len(set(np.diff(layout.carriers[layout.pilot]))) <= 2  # evenly spaced but for the gap around DC


def test_preamble() -> None:
    layout = ofdm.grid(DEFAULT)
    short, long = layout.preamble[:320], layout.preamble[320:]
    assert np.array_equal(short[:-16], short[16:])
    assert np.allclose(long[:64], long[-64:]) and np.array_equal(long[64:320], long[320:])
    assert abs(short[:16].sum()) < 1e-5  # no DC
    for part in (short, long[64:]):
        assert np.sqrt(np.mean(np.abs(part) ** 2)) == pytest.approx(DEFAULT.tx_rms, rel=1e-5)
        assert np.abs(part).max() < 0.6


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("fft_sise: 256", "unknown key fft_sise"),
        ("fft_size: 256.0", "fft_size must be int"),
        ("fft_size: true", "fft_size must be int"),
        ("name: 5", "name must be str"),
        ("fft_size: 100", "power of two"),
        ("edge_carrier: 128", "edge_carrier"),
        ("pilots: 15", "pilots"),
        ("cyclic_prefix: 200", "cyclic_prefix"),
        ("short_period: 24", "short_period"),
        ("short_repeats: 15", "short sequence"),
        ("header_symbols: 1", "header"),
        ("tx_rms: 0.9", "tx_rms"),
        ("sample_rate_hz: -1.0", "sample_rate_hz"),
        ("- a list", "mapping"),
        ("a: [", "YAML"),
        ("", "mapping"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "link.yaml"
    path.write_text(text)
    with pytest.raises(SdrError, match=word) as caught:
        load_waveform(path)
    assert "\n" not in str(caught.value)


def test_absent_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SdrError, match="cannot read"):
        load_waveform(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(SdrError, match="YAML"):
        load_waveform(tmp_path / "binary.yaml")


def test_transmission_layout_and_level() -> None:
    sent = transmit(gaussian(10_000, np.random.default_rng(0)), bytes(50), DEFAULT, session=1, image_id=2, repetition=2)
    # 10,000 + 4 · (8 · 54 + 6) symbols: 3 packets of 25 OFDM symbols
    length = 896 + 29 * 288
    assert sent.side_symbols == 1728
    assert sent.packets == tuple(PacketSpan(start * length, length) for start in range(3))
    assert sent.samples.dtype == np.complex64 and sent.samples.size == 3 * length
    assert sent.channel_uses == round(3 * length * 176 / 256)
    assert np.sqrt(np.mean(np.abs(sent.samples) ** 2)) == pytest.approx(0.25, rel=0.02)


def test_nothing_passes_full_scale_however_peaky() -> None:
    rng = np.random.default_rng(1)
    symbols = np.zeros(4000, np.complex64)
    symbols[rng.permutation(4000)[:40]] = 10
    sent = transmit(symbols, b"", DEFAULT, session=1, image_id=2, repetition=1)
    loud = transmit(
        gaussian(50_000, rng), b"", dataclasses.replace(DEFAULT, tx_rms=0.5), session=1, image_id=2, repetition=1
    )
    for samples in (sent.samples, loud.samples):
        assert np.abs(samples).max() <= 1.0
    assert np.abs(loud.samples).max() > 0.95


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"symbols": np.full(100, np.nan, np.complex64)}, "NaN"),
        ({"symbols": np.full(100, 2, np.complex64)}, "divide them by 2"),
        ({"session": -1}, "session"),
        ({"session": 1 << 24}, "session"),
        ({"image_id": 1 << 16}, "image_id"),
        ({"repetition": 5}, "repetition"),
        ({"side": bytes(70_000)}, "side information"),
    ],
)
def test_what_cannot_be_sent_is_refused(change: dict[str, object], word: str) -> None:
    arguments: dict[str, object] = {
        "symbols": np.ones(100, np.complex64),
        "side": b"x",
        "session": 1,
        "image_id": 1,
        "repetition": 2,
    }
    arguments.update(change)
    symbols, side = arguments.pop("symbols"), arguments.pop("side")
    with pytest.raises(SdrError, match=word):
        transmit(symbols, side, DEFAULT, **arguments)  # type: ignore[arg-type]


def test_waveforms_compare_by_value() -> None:
    assert Waveform() == DEFAULT and hash(Waveform()) == hash(DEFAULT)
