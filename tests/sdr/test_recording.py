"""SigMF recordings: valid ones, other datatypes, and every way to be wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdr.errors import SdrError
from sdr.recording import open_recording, write_recording
from sdr.transmit import PacketSpan
from sdr.waveform import DEFAULT, Waveform
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


def test_another_rate_is_refused_naming_both(tmp_path: Path) -> None:
    recording = open_recording(edited(tmp_path, sample_rate=2_500_000))
    with pytest.raises(SdrError, match=r"2\.5e\+06 Hz.*4e\+06 Hz"):
        recording.require_rate(DEFAULT)
    recording.require_rate(Waveform(sample_rate_hz=2.5e6))


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
    "text", ["", "{", "[]", "null", '{"global": 3}', '{"global": {}, "annotations": 3}', "\x00", "[" * 10**5]
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
