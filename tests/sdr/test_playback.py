"""Recordings with something wrong in them: what is missing, clipped, cut or doubled costs that and nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdr.calibrated import IqError
from sdr.devices.file import RecordingDevice
from sdr.errors import SdrError
from sdr.playback import Playback, _Extreme
from sdr.receive import ReceivedImage, Receiver
from sdr.recording import open_recording
from sdr.waveform import DEFAULT
from tests.sdr.helpers import mean_error, passage

SENT = passage(1, count=12_000, snr_db=20.0, repetition=4, cfo_hz=25e3)
START = round(SENT.channel.delay_samples)
PACKET = SENT.transmission.packets[0].samples


def recorded(
    folder: Path,
    samples: np.ndarray,
    *,
    rate_hz: float = 4e6,
    datatype: str = "cf32_le",
    captures: Sequence[tuple[int, int]] = ((0, 0),),
) -> Playback:
    """A recording of the samples (for integer datatypes, full scale is ±1) with captures (sample, global index)."""
    path = folder / "air.sigmf-meta"
    meta = {
        "global": {"core:datatype": datatype, "core:sample_rate": rate_hz, "core:version": "1.2.0"},
        "captures": [{"core:sample_start": start, "core:global_index": index} for start, index in captures],
        "annotations": [],
    }
    path.write_text(json.dumps(meta))
    values = np.ascontiguousarray(samples, np.complex64).view(np.float32)
    if datatype != "cf32_le":
        scalar, scale = {"ci8": (np.int8, 128), "ci16_le": (np.int16, 32768)}[datatype]
        values = np.clip(np.rint(values * scale), -scale, scale - 1).astype(scalar)
    path.with_suffix(".sigmf-data").write_bytes(values.tobytes())
    return Playback(RecordingDevice(open_recording(path)), DEFAULT)


def images(playback: Playback) -> list[ReceivedImage]:
    receiver = Receiver(DEFAULT)
    found = [image for chunk in playback for image in receiver.push(chunk)]
    return found + receiver.flush()


def test_a_sound_recording_passes_as_it_is(tmp_path: Path) -> None:
    playback = recorded(tmp_path, SENT.samples)
    for _ in range(2):  # and again from the start
        assert np.array_equal(np.concatenate(list(playback)), SENT.samples)
    assert playback.notes() == [] and (playback.missing_samples, playback.bad_samples) == (0, 0)
    assert playback.clipped_share == 0 and playback.device_sample(1234) == 1234


def test_another_rate_is_converted_and_said(tmp_path: Path) -> None:
    playback = recorded(tmp_path, np.repeat(SENT.samples, 2), rate_hz=8e6)
    assert sum(chunk.size for chunk in playback) == SENT.samples.size
    assert "8 Msps by 1/2" in playback.notes()[0] and playback.device_sample(1000) == 2000
    with pytest.raises(SdrError, match=r"air\.sigmf-data.* 1e\+06 Hz.*Msps"):
        recorded(tmp_path, SENT.samples, rate_hz=1e6)


@pytest.mark.parametrize("datatype", ["cf32_le", "ci8", "ci16_le"])
@pytest.mark.parametrize(("gain", "clipped"), [(0.5, False), (1.0, False), (4.0, True)])
def test_clipping_is_measured_and_survived(tmp_path: Path, datatype: str, gain: float, clipped: bool) -> None:
    parts = np.clip(gain * SENT.samples.view(np.float32), -1, 1)
    playback = recorded(tmp_path, parts.view(np.complex64), datatype=datatype)
    (image,) = images(playback)
    assert image.side == SENT.side and image.packets_received == image.packets_expected
    if clipped:
        assert playback.clipped_share == pytest.approx(np.mean(np.abs(parts) == 1), rel=0.1)
    assert any("clipped" in note for note in playback.notes()) == clipped


def test_an_imbalance_that_is_known_is_undone(tmp_path: Path) -> None:
    """One of 1 dB and 3° leaves an image 24 dB down, |β/α| ≈ |0.122 − 0.052j|/2, beside noise 20 dB down."""
    phase, gain = np.deg2rad(3.0), 10 ** (1 / 20)
    turned = gain * (SENT.samples.imag * np.cos(phase) + SENT.samples.real * np.sin(phase))
    faulty = (SENT.samples.real + 1j * turned).astype(np.complex64)
    (as_it_came,) = images(recorded(tmp_path, faulty))
    assert as_it_came.snr_db == pytest.approx(-10 * np.log10(0.01 + 0.061**2 + 0.026**2), abs=0.3)
    playback = recorded(tmp_path, faulty)
    playback.device.imbalance = IqError(0.0, 0.0, 0.0, 1.0, 0.0, 3.0, 0.0)
    (balanced,) = images(playback)
    assert balanced.snr_db == pytest.approx(20, abs=0.3)


@pytest.mark.parametrize("rms", [1e-3, 0.3, 2.0])
def test_coarse_quantisation_alone_is_no_clipping(tmp_path: Path, rms: float) -> None:
    """Few levels pile up nowhere, whatever full scale is."""
    values = np.random.default_rng(0).standard_normal((50_000, 2)).astype(np.float32) * rms * 128
    playback = recorded(tmp_path, (np.rint(values) / 128).view(np.complex64)[:, 0])
    list(playback)
    assert playback.clipped_share < 1e-4


def test_what_repeats_is_not_clipped(tmp_path: Path) -> None:
    """A sender's own samples hold the same preamble again and again."""
    playback = recorded(tmp_path, np.tile(SENT.samples[START : START + 1000], 300))  # in two chunks
    list(playback)
    assert playback.clipped_share == 0


@given(st.lists(st.lists(st.integers(-4, 4), min_size=1, max_size=6), min_size=1, max_size=6))
def test_the_largest_two_values_are_counted_over_all_chunks(chunks: list[list[int]]) -> None:
    extreme = _Extreme()
    for chunk in chunks:
        extreme.add(np.array(chunk, np.float32))
    values, counts = np.unique(np.concatenate(chunks), return_counts=True)
    assert (extreme.value, extreme.count) == (values[-1], counts[-1])
    if values.size > 1:
        assert (extreme.next_value, extreme.next_count) == (values[-2], counts[-2])


def test_nan_and_infinity_are_missing_and_counted(tmp_path: Path) -> None:
    samples = SENT.samples.copy()
    samples[START + PACKET + 5000] = np.nan
    samples[START + PACKET + 5001] = complex(0, np.inf)
    samples[START + PACKET + 5002] = 1e30
    playback = recorded(tmp_path, samples)
    (image,) = images(playback)
    assert playback.bad_samples == playback.missing_samples == 3
    assert any(note.startswith("3 samples are NaN") for note in playback.notes())
    heard = np.isfinite(image.noise_var)
    assert image.side == SENT.side and 0.98 < heard.mean() < 1
    assert 10 * np.log10(mean_error(SENT.symbols, image)) < -19


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 700)), max_size=5),
    size=st.integers(1, 500),
    data=st.data(),
)
def test_zero_runs_are_missing_however_the_chunks_cut_them(
    tmp_path: Path, runs: list[tuple[int, int]], size: int, data: st.DataObject
) -> None:
    samples = np.ones(3000, np.complex64)
    for start, length in runs:
        samples[start : start + length] = 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], samples == 0, [0]])))
    expected = samples.copy()
    for start, end in edges.reshape(-1, 2):
        if end - start >= 256:
            expected[start:end] = np.nan
    playback = recorded(tmp_path, samples)
    chunks = (samples[start : start + size] for start in range(0, 3000, size))
    got = np.concatenate(list(playback._without_zero_runs(chunks)))
    assert np.array_equal(got, expected, equal_nan=True)
    assert playback.missing_samples == np.isnan(expected).sum()


def test_samples_that_a_driver_replaced_by_zeros_are_erased_not_believed(tmp_path: Path) -> None:
    samples = SENT.samples.copy()
    samples[START + PACKET + 4000 : START + 2 * PACKET - 1000] = 0
    playback = recorded(tmp_path, samples)
    (image,) = images(playback)
    assert image.snr_db == pytest.approx(20, abs=0.3)  # of what came
    assert any("zeros" in note for note in playback.notes())
    heard = np.isfinite(image.noise_var)
    assert 0.6 < heard.mean() < 0.95 and 10 * np.log10(mean_error(SENT.symbols, image)) < -19


@pytest.mark.parametrize("lost", [300, 3 * 288, PACKET, 100_000, 10**9])
def test_a_gap_between_captures_costs_what_it_covers(tmp_path: Path, lost: int) -> None:
    """What comes after a gap is in its right place: nothing is decoded from shifted samples."""
    cut = START + PACKET + 5000
    rest = min(cut + lost, START + 2 * PACKET + 8000)  # a long gap as if the sender had waited
    samples = np.concatenate([SENT.samples[:cut], SENT.samples[rest:]])
    playback = recorded(tmp_path, samples, captures=((0, 7), (cut, 7 + cut + lost)))
    found = images(playback)
    assert any(f"{lost} samples were not recorded" in note for note in playback.notes())
    assert playback.missing_samples == min(lost, 4_000_000)
    assert sum(chunk.size for chunk in playback) == samples.size + min(lost, 4_000_000)
    for image in found:
        heard = np.isfinite(image.noise_var)
        assert 10 * np.log10(np.mean(np.abs(image.symbols - SENT.symbols)[heard] ** 2)) < -18.5
    assert found[0].packets_received >= 2
    after = min(lost, 4_000_000) + cut + 10
    assert playback.device_sample(cut - 1) == cut - 1 and playback.device_sample(after) == cut + 10


@pytest.mark.parametrize("kind", ["start", "middle of the first packet", "middle of the last packet", "both ends"])
def test_a_recording_of_a_part_gives_that_part(tmp_path: Path, kind: str) -> None:
    end = START + len(SENT.transmission.packets) * PACKET
    cuts = {
        "start": (0, START + 3000),
        "middle of the first packet": (START + PACKET // 2, end),
        "middle of the last packet": (0, end - PACKET // 2),
        "both ends": (START + PACKET // 2, end - PACKET // 2),
    }
    first, last = cuts[kind]
    (image,) = images(recorded(tmp_path, SENT.samples[first:last]))
    heard = np.isfinite(image.noise_var)
    assert 0 < heard.mean() < 1 and not image.symbols[~heard].any()
    assert 10 * np.log10(np.mean(np.abs(image.symbols - SENT.symbols)[heard] ** 2)) < -19


@pytest.mark.parametrize("shift", [3000, 700, 150])
@pytest.mark.parametrize("level_db", [-20.0, 0.0])
def test_of_two_radios_that_collide_the_symbols_are_told_apart_by_their_variance(
    tmp_path: Path, shift: int, level_db: float
) -> None:
    """Whatever comes through is what one of them sent, as well as it says: never a mixture that claims to be clean."""
    other = passage(
        2, count=12_000, name="ideal", repetition=4, image_id=9, delay_samples=float(START + PACKET + shift)
    )
    samples = SENT.samples.copy()
    overlap = other.samples[: samples.size] * 10 ** (level_db / 20)
    samples[: overlap.size] += overlap
    sent = {1: SENT.symbols, 9: other.symbols}
    found = images(recorded(tmp_path, samples))
    assert found and found[0].image_id == 1
    for image in found:
        heard = np.isfinite(image.noise_var)
        error = np.abs(image.symbols - sent[image.image_id])[heard] ** 2
        assert 10 * np.log10(np.mean(error) / np.mean(image.noise_var[heard])) < 3


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(min_size=8, max_size=4000),
    datatype=st.sampled_from(["cf32_le", "ci16_le", "ci8"]),
    rate_hz=st.sampled_from([3e6, 4e6, 1e7]),
    repeats=st.integers(1, 40),
    captures=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 10**6)), max_size=4),
)
def test_any_bytes_are_survived(
    tmp_path: Path, content: bytes, datatype: str, rate_hz: float, repeats: int, captures: list[tuple[int, int]]
) -> None:
    recorded(tmp_path, SENT.samples[:10], rate_hz=rate_hz, datatype=datatype, captures=captures)
    path = tmp_path / "air.sigmf-meta"
    path.with_suffix(".sigmf-data").write_bytes(content * repeats)
    playback = Playback(RecordingDevice(open_recording(path)), DEFAULT)
    assert images(playback) == [] and all("\n" not in note for note in playback.notes())
