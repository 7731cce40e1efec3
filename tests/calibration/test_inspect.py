"""What `lrisc inspect` measures, against what the channel was; what it says of damage; that its picture is drawn."""

import json
from pathlib import Path

import numpy as np
import pytest

from calibration.figure import draw
from calibration.hearing import HeardPacket, why_incomplete
from calibration.inspect import Inspection, inspect, report
from calibration.tracks import PacketTracks, impulse_response
from sdr import ofdm
from sdr.candidate import Reason
from sdr.recording import open_recording, write_recording
from sdr.waveform import DEFAULT
from tests.sdr.helpers import passage


def inspected(folder: Path, samples: np.ndarray) -> Inspection:
    path = folder / "air.sigmf-meta"
    write_recording(path, samples.astype(np.complex64), DEFAULT, (), {})
    return inspect(open_recording(path), DEFAULT)


def of(tracks: list[PacketTracks], name: str) -> np.ndarray:
    return np.concatenate([getattr(one, name) for one in tracks])


def test_snr_is_measured_and_told_as_it_was(tmp_path: Path) -> None:
    sent = passage(1, count=20_000, snr_db=12.0, repetition=4)
    seen = inspected(tmp_path, sent.samples)
    assert len(seen.tracks) == seen.hearing.packet_count == len(sent.transmission.packets) and len(seen.images) == 1
    assert 10 * np.log10(np.mean(10 ** (-of(seen.tracks, "snr_db") / 10))) == pytest.approx(-12, abs=0.3)
    assert of(seen.tracks, "snr_told_db").mean() == pytest.approx(12, abs=0.3)
    for one in seen.tracks:
        assert one.noise_db == pytest.approx(-12, abs=0.4)
        assert np.mean(np.abs(one.response) ** 2) == pytest.approx(1, abs=0.1)
        assert one.payload.shape == one.symbol_snr_db.shape == (one.snr_told_db.size, DEFAULT.data_carriers)
        assert np.mean(np.sign(one.header.real) == np.where(np.abs(one.header + 1) < 1, -1, 1)) > 0.99
        assert np.mean(np.abs(np.abs(one.header.real) - 1) ** 2) == pytest.approx(10**-1.2 / 2, rel=0.3)


def test_phase_and_timing_are_those_of_the_oscillators(tmp_path: Path) -> None:
    """A clock 40 ppm fast comes earlier by 40 ns every ms; the carrier's residue turns the phase as a line."""
    sent = passage(2, count=20_000, snr_db=25.0, sfo_ppm=40.0, cfo_hz=15e3, repetition=4)
    seen = inspected(tmp_path, sent.samples)
    for one in seen.tracks:
        for name in ("delay_s", "delay_tracked_s"):
            slope = np.polyfit(one.time_s, getattr(one, name), 1)[0]
            assert slope == pytest.approx(-40e-6, abs=4e-6)
        assert np.sqrt(np.mean((one.delay_s - one.delay_tracked_s) ** 2)) < 5e-9
        assert np.sqrt(np.mean((one.phase_rad - one.phase_tracked_rad) ** 2)) < 0.03
        assert one.heard.cfo_hz == pytest.approx(15e3, abs=20)
    # symbols follow each other at their own pace, packets at theirs
    step = DEFAULT.symbol_samples / DEFAULT.sample_rate_hz
    assert np.diff(seen.tracks[0].time_s)[2:] == pytest.approx(step)
    starts = np.array([one.time_s[0] for one in seen.tracks])
    assert np.diff(starts) == pytest.approx(sent.transmission.packets[0].samples / 4e6, abs=1e-6)


def test_a_sample_too_many_shows_as_the_delay_that_it_is(tmp_path: Path) -> None:
    """Whatever the receiver, which expects a steady clock, makes of it."""
    sent = passage(7, count=4000, snr_db=30.0, repetition=4, delay_samples=500.0)
    middle = 500 + sent.transmission.packets[0].samples * 2 // 3
    (one, *_) = inspected(tmp_path, np.insert(sent.samples, middle, 0)).tracks
    late = one.time_s > middle / 4e6
    step_s = np.median(one.delay_s[late]) - np.median(one.delay_s[~late])
    assert step_s == pytest.approx(250e-9, rel=0.15)


def test_the_impulse_response_shows_each_path_at_its_delay(tmp_path: Path) -> None:
    sent = passage(3, count=6000, name="ideal", repetition=4, delay_samples=400.0)
    echo = np.concatenate([np.zeros(12), 0.5 * sent.samples])[: sent.samples.size]
    seen = inspected(tmp_path, sent.samples + echo)
    delays_s, power = impulse_response(seen.tracks[0].response, DEFAULT)
    first_s = delays_s[np.argmax(power)]
    assert abs(first_s) < 1.5 / 4e6
    at = {delay: power[np.argmin(np.abs(delays_s - first_s - delay / 4e6))] for delay in (0, 6, 12)}
    assert at[0] == pytest.approx(1, abs=0.1) and at[12] == pytest.approx(0.25, abs=0.04) and at[6] < 0.01
    one_path = ofdm.grid(DEFAULT).carriers * (-2j * np.pi * 10 / 256)
    delays_s, power = impulse_response(np.exp(one_path), DEFAULT)
    assert power.max() == pytest.approx(1) and delays_s[np.argmax(power)] == pytest.approx(4 / 4e6)


def test_the_power_of_the_whole_recording_is_shown(tmp_path: Path) -> None:
    """Columns of any width hold the mean and the peak of their samples; a missing sample spoils only its own."""
    rng = np.random.default_rng(4)
    samples = rng.standard_normal((1_500_000, 2)) @ [0.1, 0.1j]
    samples[700_000:710_000] *= 10
    samples[100_000] = np.nan
    seen = inspected(tmp_path, samples)
    width = round(seen.column_s * 4e6)
    columns = samples[: samples.size // width * width].reshape(-1, width)
    assert 1024 < len(columns) <= 2048
    assert seen.mean_power == pytest.approx(np.mean(np.abs(columns) ** 2, axis=1), rel=1e-5, nan_ok=True)
    assert seen.peak_power == pytest.approx(np.max(np.abs(columns) ** 2, axis=1), rel=1e-5, nan_ok=True)
    assert np.isnan(seen.mean_power).sum() == 1
    assert seen.tracks == [] and draw(seen, "noise").shape[1] == 1400


def troubled() -> tuple[np.ndarray, list[int]]:
    """Packets with a spoilt header (1), another sender on top (2), a hole (3), and cut off in the preamble (5)."""
    sent = passage(5, count=23_000, snr_db=20.0, delay_samples=1000.0, repetition=4)
    starts = [1000 + packet.start_sample for packet in sent.transmission.packets]
    samples = sent.samples.copy()
    header = slice(starts[1] + DEFAULT.preamble_samples, starts[1] + DEFAULT.packet_samples(0))
    samples[header] = samples[:1000].repeat(2)[: header.stop - header.start]
    preamble = ofdm.grid(DEFAULT).preamble
    samples[starts[2] + 6000 : starts[2] + 6000 + preamble.size] += 2 * preamble
    samples[starts[3] + 5000 : starts[3] + 5100] = np.nan
    return samples[: starts[5] + 1500], starts


def test_damage_is_located_and_named(tmp_path: Path) -> None:
    samples, starts = troubled()
    seen = inspected(tmp_path, samples)
    rejected = {candidate.reason: candidate.start_sample for candidate in seen.hearing.rejected}
    assert rejected[Reason.HEADER] == pytest.approx(starts[1], abs=3)
    assert rejected[Reason.OVERLAP] == pytest.approx(starts[2] + 6000, abs=3)
    assert rejected[Reason.CUT] == pytest.approx(starts[5], abs=3)
    assert [packet.packet_index for packet in seen.hearing.packets] == [0, 2, 3, 4]
    assert [packet.cut_share > 0 for packet in seen.hearing.packets] == [False, False, True, False]
    (image,) = seen.images
    assert image["incomplete"] == "packet 1 lost; packet 5 after it ends; packet 3 not whole"
    assert image["packets_received"] == 4 and 0 < image["erased_share"] < 1


def test_numbers_are_json_and_the_picture_is_drawn(tmp_path: Path) -> None:
    samples, _ = troubled()
    seen = inspected(tmp_path, samples)
    numbers = json.loads(json.dumps(report(seen), allow_nan=False))
    assert numbers["packets_received"] == 4 == len(numbers["packets"]) == len(numbers["tracks"])
    assert numbers["packets_rejected"] == 3 <= len(numbers["rejected_candidates"])
    assert numbers["recording"]["samples"] == samples.size and numbers["recording"]["bad_samples"] == 100
    assert len(numbers["tracks"][0]["response_db"]) == len(numbers["carriers_hz"]) == DEFAULT.used_subcarriers
    assert numbers["packets"][0]["start_s"] == pytest.approx(1000 / 4e6, abs=1e-6)
    picture = draw(seen, "troubled")
    assert picture.shape[1] == 1400 and picture.dtype == np.uint8
    for colour in ((0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2), (0xDD, 0xDD, 0xDD)):  # rejected, packets, missing
        assert np.all(picture == colour, axis=2).sum() > 50


def test_of_a_long_recording_the_first_packets_are_looked_at_closely(tmp_path: Path) -> None:
    sent = passage(6, count=6000, snr_db=15.0, repetition=4)
    silence = np.tile(sent.samples[-1500:], 280)  # noise, in fact
    seen = inspected(tmp_path, np.concatenate([silence, sent.samples, silence, sent.samples]))
    assert seen.hearing.packet_count == 2 * len(seen.tracks) == 2 * len(sent.transmission.packets)
    assert len(seen.images) == 2
    first_s, last_s = seen.window_s
    assert first_s < seen.tracks[0].time_s[0] < seen.tracks[-1].time_s[-1] < last_s < first_s + 0.1
    assert seen.window.size == round((last_s - first_s) * 4e6)


@pytest.mark.parametrize("samples", [np.zeros(20_000), np.ones(3), np.full(5000, np.nan), np.ones(70_000) * 1j])
def test_what_is_no_signal_is_survived(tmp_path: Path, samples: np.ndarray) -> None:
    seen = inspected(tmp_path, samples)
    assert report(seen)["packets_received"] == 0 and draw(seen, "nothing").ndim == 3


def heard(index: int, start: int, cut_share: float = 0.0, count: int = 8) -> HeardPacket:
    return HeardPacket(start, start + 100, 1, 1, index, count, 10.0, -12.0, 0.0, 0.0, cut_share)


@pytest.mark.parametrize(
    ("packets", "samples", "expected"),
    [
        ([], 1000, None),
        ([heard(index, 100 * index) for index in range(8)], 800, None),
        (
            [heard(3, 250), heard(4, 350)],
            650,
            "packet 0 before the recording begins; packets 1, 2, 5, 6 lost; packet 7 after it ends",
        ),
        ([heard(0, 0), heard(5, 500, 0.5)], 10_000, "packets 1…4, 6, 7 lost; packet 5 not whole"),
        ([heard(0, 0, 0.25, count=1)], 10_000, "packet 0 not whole"),
    ],
)
def test_missing_packets_are_told_by_where_they_would_lie(
    packets: list[HeardPacket], samples: int, expected: str | None
) -> None:
    assert why_incomplete(packets, samples) == expected
