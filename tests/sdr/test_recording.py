"""SigMF recordings: valid ones, other datatypes, and every way to be wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdr.errors import SdrError
from sdr.recording import open_recording, write_recording
from sdr.transmit import PacketSpan
from sdr.waveform import DEFAULT
from tests.sdr.helpers import passage, receive

SAMPLES = (np.linspace(-0.9, 0.9, 1000) * np.exp(1j * np.arange(1000))).astype(np.complex64)
PACKETS = (PacketSpan(500, 100), PacketSpan(10, 100))


def written(folder: Path, name: str = "air.sigmf-meta") -> Path:
    path = folder / name
    write_recording(path, SAMPLES, DEFAULT, PACKETS, {"image": {"height": 3}, "cbr": 0.08})
    return path


def edited(folder: Path, **changes: Any) -> Path:
    """A recording whose global object is changed; None removes a key."""
    path = written(folder)
    meta = json.loads(path.read_text())
    for key, value in changes.items():
        meta["global"][f"core:{key}"] = value
        if value is None:
            del meta["global"][f"core:{key}"]
    path.write_text(json.dumps(meta))
    return path


def test_round_trip_in_any_chunks(tmp_path: Path) -> None:
    recording = open_recording(written(tmp_path, "with.dots.sigmf-meta"))
    assert (recording.sample_rate_hz, recording.samples, recording.notes) == (4e6, 1000, ())
    assert [entry["core:sample_start"] for entry in recording.annotations] == [10, 500]
    for size in (1, 7, 1000, 5000):
        chunks = list(recording.chunks(size))
        assert max(len(chunk) for chunk in chunks) <= size
        assert np.array_equal(np.concatenate(chunks), SAMPLES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["with.dots.sigmf-data", "with.dots.sigmf-meta"]


def test_sigmf_accepts_it(tmp_path: Path) -> None:
    import sigmf

    handle = sigmf.fromfile(str(written(tmp_path)))
    handle.validate()
    assert np.array_equal(handle.read_samples(), SAMPLES)
    assert handle.get_global_info()["lrisc:image"] == {"height": 3}


@pytest.mark.parametrize(("datatype", "scalar", "scale"), [("ci16_le", "<i2", 32768), ("ci8", "i1", 128)])
def test_integer_datatypes(tmp_path: Path, datatype: str, scalar: str, scale: int) -> None:
    path = edited(tmp_path, datatype=datatype)
    values = np.round(SAMPLES.view(np.float32) * scale).astype(scalar)
    path.with_suffix(".sigmf-data").write_bytes(values.tobytes())
    got = np.concatenate(list(open_recording(path).chunks(300)))
    assert got.dtype == np.complex64
    assert np.abs(got - SAMPLES).max() <= 1 / scale


def test_an_8_bit_recording_still_holds_its_image(tmp_path: Path) -> None:
    sent = passage(1, snr_db=15.0)
    path = edited(tmp_path, datatype="ci8")
    path.with_suffix(".sigmf-data").write_bytes(np.round(sent.samples.view(np.float32) * 100).astype("i1").tobytes())
    (image,) = receive(np.concatenate(list(open_recording(path).chunks())))
    assert image.side == sent.side


def test_a_cut_sample_is_dropped_and_noted(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.with_suffix(".sigmf-data")
    data.write_bytes(data.read_bytes()[:-3])
    recording = open_recording(path)
    assert "5 bytes" in recording.notes[0]
    assert np.array_equal(np.concatenate(list(recording.chunks())), SAMPLES[:-1])


def test_the_data_file_names_the_recording_too(tmp_path: Path) -> None:
    assert open_recording(written(tmp_path).with_suffix(".sigmf-data")).samples == 1000


def test_a_rate_that_is_told_supplies_or_replaces_the_stated_one(tmp_path: Path) -> None:
    assert open_recording(edited(tmp_path, sample_rate=None), 5e6).sample_rate_hz == 5e6
    recording = open_recording(written(tmp_path), 5e6)
    assert recording.sample_rate_hz == 5e6 and "4000000" in recording.notes[0]
    assert open_recording(written(tmp_path), 4e6).notes == ()


@pytest.mark.parametrize(("suffix", "datatype"), [(".cf32", "cf32_le"), (".cs16", "ci16_le"), (".cs8", "ci8")])
def test_a_raw_file_needs_a_rate_and_its_name_tells_the_datatype(tmp_path: Path, suffix: str, datatype: str) -> None:
    path = tmp_path / f"air{suffix}"
    path.write_bytes(SAMPLES.tobytes())
    with pytest.raises(SdrError, match=r"states no sample rate.*--rate-hz"):
        open_recording(path)
    recording = open_recording(path, 4e6)
    assert (recording.datatype, recording.sample_rate_hz) == (datatype, 4e6)
    for rate_hz in (0.0, -4e6, float("nan"), float("inf"), 1e300):
        with pytest.raises(SdrError, match="no valid sample rate"):
            open_recording(path, rate_hz)


def with_captures(folder: Path, captures: object) -> Path:
    path = written(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), "captures": captures}))
    return path


def capture(start: object, index: object = None, **others: object) -> dict[str, object]:
    keys = {"sample_start": start, "global_index": index, **others}
    return {f"core:{key}": value for key, value in keys.items() if value is not None}


@pytest.mark.parametrize(
    ("captures", "gaps", "word"),
    [
        ([], (), ""),
        ([capture(0, 50), capture(400, 450), capture(700, 1000)], ((700, 250),), ""),
        ([capture(0), capture(400)], (), ""),  # without an index nothing tells that anything is missing
        ([capture(0, 50), capture(400, 300)], (), "before the one before it has ended"),
        ([capture(0, frequency=1e9), capture(400, frequency=2e9)], (), "centre frequency from sample 400"),
        ([capture(0, 0), capture(5000, 9000)], (), "5000"),
        ([capture("0"), capture(-1), capture(True), {}], (), "ignored"),
        ([capture(0, -5), capture(0, 1.5), capture(0, "1")], (), "ignored"),
    ],
)
def test_captures_tell_of_gaps(
    tmp_path: Path, captures: list[object], gaps: tuple[tuple[int, int], ...], word: str
) -> None:
    recording = open_recording(with_captures(tmp_path, captures))
    assert recording.gaps == gaps
    assert word in " ".join(recording.notes) and bool(word) == bool(recording.notes)


def test_headers_between_the_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SdrError, match="header_bytes"):
        open_recording(with_captures(tmp_path, [capture(0, header_bytes=64)]))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"datatype": "rf32_le"}, "rf32_le"),
        ({"datatype": None}, "datatype"),
        ({"datatype": ["cf32_le"]}, "datatype"),
        ({"sample_rate": None}, "sample_rate"),
        ({"sample_rate": "4e6"}, "sample_rate"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"sample_rate": 10**400}, "sample_rate"),
        ({"sample_rate": float("nan")}, "sample_rate"),
        ({"num_channels": 2}, "2 channels"),
    ],
)
def test_wrong_metadata_is_refused(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(SdrError, match=word) as caught:
        open_recording(edited(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"global": 3}',
        '{"global": {}, "annotations": 3}',
        '{"global": {}, "captures": {}}',
        '{"global": {}, "captures": [3]}',
        "\x00",
        "[" * 10**5,
    ],
)
def test_malformed_metadata_is_refused(tmp_path: Path, text: str) -> None:
    path = written(tmp_path)
    path.write_text(text)
    with pytest.raises(SdrError, match=r"JSON|SigMF"):
        open_recording(path)


def test_binary_metadata_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(SdrError, match="JSON"):
        open_recording(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 7])
def test_empty_data_is_refused(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path)
    path.with_suffix(".sigmf-data").write_bytes(content)
    with pytest.raises(SdrError, match="empty"):
        open_recording(path)


def test_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SdrError, match="cannot read"):
        open_recording(tmp_path / "none.sigmf-meta")
    with pytest.raises(SdrError, match="sigmf-meta"):
        open_recording(tmp_path / "photo.png")
    path = written(tmp_path)
    path.with_suffix(".sigmf-data").unlink()
    with pytest.raises(SdrError, match=r"air\.sigmf-data"):
        open_recording(path)


def test_data_that_shrinks_while_read_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path)
    recording = open_recording(path)
    path.with_suffix(".sigmf-data").write_bytes(SAMPLES[:10].tobytes())
    with pytest.raises(SdrError, match="shorter"):
        list(recording.chunks(100))


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SdrError, match="sigmf-meta"):
        write_recording(tmp_path / "air.bin", SAMPLES, DEFAULT, (), {})
    with pytest.raises(SdrError, match="at least one"):
        write_recording(tmp_path / "air.sigmf-meta", SAMPLES[:0], DEFAULT, (), {})
    with pytest.raises(SdrError, match="cannot write"):
        write_recording(tmp_path / "none" / "air.sigmf-meta", SAMPLES, DEFAULT, (), {})
    assert not list(tmp_path.iterdir())
