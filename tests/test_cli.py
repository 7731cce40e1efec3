"""The `lrisc` command as a user meets it, with the shipped weights."""

import errno
import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lrisc
from models.image import default_photo, load_image
from models.metrics import psnr_db
from models.weights import SHIPPED
from tests.models.foreign import CBR as FOREIGN_CBR
from tests.models.foreign import write_foreign

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `lrisc ARGUMENTS` in this process; gives exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lrisc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            lrisc.main()
        printed = capsys.readouterr()
        return int(stopped.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face and some texture, 150×200, sides no multiples of anything."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(default_photo()[0][40:190, 120:320]).save(path)
    return path


@pytest.fixture(scope="module")
def recording(photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of `photo` made by `lrisc send`."""
    path = tmp_path_factory.mktemp("recording") / "sent.sigmf-meta"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(sys, "argv", ["lrisc", "send", str(photo), "--to", str(path), "--seed", "1", "--json"])
        lrisc.main()
    assert stopped.value.code == 0
    return path


def refused(result: tuple[int, str, str], *words: str) -> None:
    """A user error: exit code 2, nothing on stdout, one line on stderr that has the words in it."""
    code, out, err = result
    assert code == 2 and out == ""
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("lrisc: "), err
    for word in words:
        assert word in lines[0]


def test_loopback_reports_and_writes_what_it_promises(run: Run, photo: Path, tmp_path: Path) -> None:
    arguments = ("--snr-db", 12, "--cbr", "1/12", "--cfo-hz", 12000, "--sfo-ppm", 10, "--out", tmp_path, "--json")
    code, out, _ = run("loopback", photo, *arguments)
    assert code == 0
    report = json.loads(out)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["image"] == {"path": str(photo), "height": 150, "width": 200}
    assert set(report["model"]) == {"name", "parameters", "weights_sha256"} and report["model"]["parameters"] > 1e6
    assert 0.98 / 12 <= report["cbr"] <= 1 / 12 and report["cbr_payload"] < report["cbr"] < report["cbr_total"]
    assert report["symbols"] == round(report["cbr_payload"] * 3 * 150 * 200)
    assert abs(report["snr_db_estimated"] - report["snr_db_true"]) < 1
    assert abs(report["cfo_hz_estimated"] - 12000) < 100
    assert report["packets_received"] == report["packets_sent"] > 0
    assert set(report["quality"]) == {"lrisc", "direct", "deepjscc", "digital"}
    assert all({"psnr_db", "ms_ssim", "lpips"} <= set(values) for values in report["quality"].values())
    assert set(report["seconds"]) == {"encode", "transmit", "channel", "receive", "decode"}
    original, received = load_image(photo), load_image(tmp_path / "received.png")
    assert received.shape == original.shape
    assert psnr_db(original, received) == pytest.approx(report["quality"]["lrisc"]["psnr_db"])
    assert all((tmp_path / f"{name}.png").is_file() for name in ("deepjscc", "digital", "comparison"))


def test_channel_takes_a_file_and_numbers_beside_it_win(run: Run, photo: Path, tmp_path: Path) -> None:
    file = tmp_path / "air.yaml"
    file.write_text("fading: tdl-a\nsnr_db: 25\ncfo_hz: 9000\nadc_bits: 8\n", encoding="utf-8")
    arguments = ("--channel", file, "--snr-db", 18, "--steps", 0, "--out", tmp_path, "--json")
    code, out, err = run("loopback", photo, *arguments)
    assert code == 0, err
    report = json.loads(out)
    conditions = {key: report["channel"][key] for key in ("fading", "snr_db", "cfo_hz", "adc_bits", "loss")}
    assert conditions == {"fading": "tdl-a", "snr_db": 18, "cfo_hz": 9000, "adc_bits": 8, "loss": 0}
    assert report["snr_db_true"] == 18 and abs(report["cfo_hz_estimated"] - 9000) < 100


def test_a_channel_file_with_an_unknown_key_is_refused_by_name(run: Run, photo: Path, tmp_path: Path) -> None:
    file = tmp_path / "air.yaml"
    file.write_text("weather: bad\n", encoding="utf-8")
    code, _, err = run("loopback", photo, "--channel", file)
    assert code == 2 and err.strip().count("\n") == 0 and all(word in err for word in ("air.yaml", "weather", "fading"))


def test_the_seed_decides_every_pixel(run: Run, photo: Path, tmp_path: Path) -> None:
    pictures = []
    for index, seed in enumerate((3, 3, 4)):
        assert run("loopback", photo, "--seed", seed, "--out", tmp_path / str(index))[0] == 0
        pictures.append(load_image(tmp_path / str(index) / "received.png"))
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_quality_rises_with_snr(run: Run, photo: Path, tmp_path: Path) -> None:
    psnr = []
    for snr_db in (0, 20):
        code, out, _ = run("loopback", photo, "--snr-db", snr_db, "--steps", 0, "--out", tmp_path, "--json")
        assert code == 0
        psnr.append(json.loads(out)["quality"]["direct"]["psnr_db"])
    assert psnr[1] > psnr[0] + 3


@pytest.mark.parametrize("roi", ["60,20,64,64", "auto", "mask"])
def test_a_region_of_interest_keeps_the_budget_and_gains_inside(
    run: Run, photo: Path, tmp_path: Path, roi: str
) -> None:
    inside = np.zeros((150, 200), dtype=bool)
    inside[20:84, 60:124] = True
    mask = tmp_path / "mask.png"
    Image.fromarray(inside.astype(np.uint8) * 255).save(mask)
    arguments = ("--snr-db", 10, "--cbr", "1/12", "--steps", 0, "--json")
    code, out, _ = run("loopback", photo, *arguments, "--roi", mask if roi == "mask" else roi, "--out", tmp_path / "a")
    assert code == 0 and json.loads(out)["cbr"] <= 1 / 12
    if roi != "auto":
        assert run("loopback", photo, *arguments, "--out", tmp_path / "b")[0] == 0
        original = load_image(photo)[20:84, 60:124]
        kept, plain = (load_image(tmp_path / name / "received.png")[20:84, 60:124] for name in "ab")
        assert psnr_db(original, kept) > psnr_db(original, plain)


def test_lost_packets_cost_quality_and_nothing_else(run: Run, photo: Path, tmp_path: Path) -> None:
    code, out, _ = run("loopback", photo, "--cbr", "1/6", "--loss", 0.25, "--snr-db", 15, "--out", tmp_path, "--json")
    report = json.loads(out)
    assert code == 0 and report["packets_received"] < report["packets_sent"]
    assert report["quality"]["lrisc"]["psnr_db"] > 15


def test_nothing_received_is_said_in_one_line(run: Run, photo: Path, tmp_path: Path) -> None:
    code, out, err = run("loopback", photo, "--loss", 1, "--out", tmp_path)
    assert code == 1 and out == "" and "no packet" in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["loopback", "send", "receive", "inspect", "radios", "train", "doctor"])
def test_help_has_an_example(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0 and f"Example: lrisc {command}" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cbr", "1/2"), ("CBR", "1/128")),
        (("--cbr", "0"), ("CBR",)),
        (("--cbr", "1/0"), ("CBR",)),
        (("--cbr", "many"), ("CBR", "many")),
        (("--snr-db", "99"), ("snr_db", "40")),
        (("--snr-db", "loud"), ("--snr-db", "number")),
        (("--channel", "water"), ("water", "awgn", "YAML")),
        (("--channel", "nowhere.yaml"), ("nowhere.yaml",)),
        (("--loss", "2"), ("loss",)),
        (("--cfo-hz", "1e9"), ("cfo",)),
        (("--steps", "-1"), ("--steps",)),
        (("--roi", "900,900,10,10"), ("900",)),
        (("--roi", "nowhere.png"), ("nowhere.png",)),
        (("--model", "nonsense"), ("nonsense", "lrisc")),
        (("--link", "nowhere.yaml"), ("nowhere.yaml",)),
        (("--unknown",), ("--unknown",)),
    ],
)
def test_bad_options_are_refused(
    run: Run, photo: Path, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(run("loopback", photo, "--out", tmp_path / "out", *arguments), *words)
    assert not list((tmp_path / "out").glob("*.png"))


def test_bad_pictures_and_folders_are_refused(run: Run, photo: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    refused(run("loopback", text, *out), "text.png")
    refused(run("loopback", tmp_path / "absent.png", *out), "absent.png")
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(photo.read_bytes()[:5000])
    refused(run("loopback", truncated, *out), "truncated.png")
    (tmp_path / "empty.png").touch()
    refused(run("loopback", tmp_path / "empty.png", *out), "empty")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    refused(run("loopback", tmp_path / "dot.png", *out), "1×1")
    Image.new("L", (30, 30)).save(tmp_path / "mask.png")
    refused(run("loopback", photo, "--roi", tmp_path / "mask.png", *out), "30", "200")
    refused(run("loopback", photo, "--out", text / "below"), "cannot write", "below")
    refused(run("send", photo, "--to", text / "below" / "sent.sigmf-meta"), "cannot write", "below")


def test_a_full_disk_is_said_in_one_line(
    run: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("commands.loopback.write_text", full)
    refused(run("loopback", photo, "--out", tmp_path), "No space left on device", "report.json")


def test_altered_or_missing_weights_are_refused(run: Run, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(SHIPPED / "lrisc", folder)
    file = folder / "jscc" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    refused(run("loopback", photo, "--model", folder, "--out", tmp_path), "altered")
    file.unlink()
    refused(run("loopback", photo, "--model", folder, "--out", tmp_path), "missing")
    (folder / "codec.json").write_text("{")
    refused(run("loopback", photo, "--model", folder, "--out", tmp_path), "codec.json")


def test_send_writes_a_described_recording(run: Run, photo: Path, tmp_path: Path) -> None:
    path = tmp_path / "sub" / "sent.sigmf-meta"
    code, out, _ = run("send", photo, "--to", path, "--cbr", "1/24", "--snr-hint-db", 8, "--json")
    report = json.loads(out)
    assert code == 0 and report["cbr"] <= 1 / 24
    assert set(report["waveform"]) == {"sample_rate_hz", "fft_size", "cyclic_prefix", "used_subcarriers"}
    annotations = json.loads(path.read_text())["annotations"]
    assert [(p["start_sample"], p["samples"]) for p in report["packets"]] == [
        (a["core:sample_start"], a["core:sample_count"]) for a in annotations
    ]
    assert path.with_suffix(".sigmf-data").stat().st_size == 8 * report["samples"]
    refused(run("send", photo, "--to", tmp_path / "sent.wav"), "sigmf-meta")


def test_a_folder_is_sent_picture_by_picture(run: Run, photo: Path, tmp_path: Path) -> None:
    folder, path = tmp_path / "pictures", tmp_path / "sent.sigmf-meta"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(photo, folder / name)
    (folder / "c.png").write_text("no picture")
    code, out, err = run("send", folder, "--to", path, "--json")
    first, second, report = map(json.loads, out.splitlines())
    assert code == 0 and "c.png" in err and (first["image_id"], second["image_id"]) == (0, 1)
    assert report["pictures_sent"] == 2 and report["pictures_dropped"] == 0 and report["fps"] > 0
    code, out, _ = run("receive", "--from", path, "--steps", 0, "--out", tmp_path / "out", "--json")
    images = json.loads(out)["images"]
    assert [image["image_id"] for image in images] == [0, 1] and all(image["file"] for image in images)
    assert "2 pictures in" in run("send", folder, "--to", path)[1]


def samples_of(recording: Path) -> np.ndarray:
    return np.fromfile(recording.with_suffix(".sigmf-data"), dtype=np.complex64)


def write_iq(path: Path, datatype: str, data: bytes) -> Path:
    meta = {"global": {"core:datatype": datatype, "core:sample_rate": 4e6, "core:version": "1.0.0"}}
    path.write_text(json.dumps({**meta, "captures": [{"core:sample_start": 0}], "annotations": []}))
    path.with_suffix(".sigmf-data").write_bytes(data)
    return path


def on_air(samples: np.ndarray, seed: int, cfo_hz: float) -> np.ndarray:
    """Twice the same packets, at unknown times, with noise at about 20 dB, CFO and a strange phase."""
    rng = np.random.default_rng(seed)
    gaps = [np.zeros(int(rng.integers(2000, 9000)), np.complex64) for _ in range(3)]
    stream = np.concatenate([gaps[0], samples, gaps[1], samples, gaps[2]])
    noise = rng.standard_normal((2, stream.size)) * 0.25 * 0.1 * 0.5**0.5
    return np.asarray(
        stream * np.exp(2j * np.pi * cfo_hz / 4e6 * np.arange(stream.size) + 1j) + noise[0] + 1j * noise[1]
    )


@pytest.mark.parametrize("datatype", ["cf32_le", "ci16_le", "ci8"])
def test_receive_decodes_a_foreign_recording_blindly(
    run: Run, recording: Path, photo: Path, tmp_path: Path, datatype: str
) -> None:
    stream = on_air(samples_of(recording), 5, -31_000.0).astype(np.complex64).view(np.float32)
    if datatype == "ci16_le":
        data = np.clip(stream * 20000, -32768, 32767).astype("<i2").tobytes()
    elif datatype == "ci8":
        data = np.clip(stream * 100, -128, 127).astype(np.int8).tobytes()
    else:
        data = stream.astype("<f4").tobytes()
    path = write_iq(tmp_path / "heard.sigmf-meta", datatype, data + b"\0")  # the last sample is cut off
    code, out, _ = run("receive", "--from", path, "--out", tmp_path / "out", "--reference", photo, "--json")
    report = json.loads(out)
    assert code == 0 and report["notes"]
    assert len(report["images"]) == 2
    for image in report["images"]:
        assert image["packets_received"] == image["packets_expected"]
        assert abs(image["cfo_hz_estimated"] + 31_000) < 100
        assert image["quality"]["psnr_db"] > 20
        assert load_image(image["file"]).shape == load_image(photo).shape


def test_somebody_elses_model_is_sent_and_received_by_its_adapter(run: Run, photo: Path, tmp_path: Path) -> None:
    model, recording = write_foreign(tmp_path), tmp_path / "sent.sigmf-meta"
    code, out, _ = run("send", photo, "--to", recording, "--model", model, "--cbr", FOREIGN_CBR, "--json")
    assert code == 0 and json.loads(out)["model"]["name"] == "their JSCC"
    code, out, _ = run("receive", "--from", recording, "--out", tmp_path / "out", "--model", model, "--json")
    (image,) = json.loads(out)["images"]
    assert code == 0 and load_image(image["file"]).shape == load_image(photo).shape
    result = run("send", photo, "--to", recording, "--model", model, "--cbr", "1/12", "--json")
    refused(result, "their JSCC sends at CBR 1/6 only")


def test_noise_holds_no_image(run: Run, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(400_000).astype("<f4")
    path = write_iq(tmp_path / "noise.sigmf-meta", "cf32_le", noise.tobytes())
    code, out, _ = run("receive", "--from", path, "--out", tmp_path / "out", "--json")
    assert code == 0 and json.loads(out)["images"] == []
    assert "no image found" in run("receive", "--from", path, "--out", tmp_path / "out")[1]


def test_pictures_of_other_weights_are_named_and_the_others_still_decoded(
    run: Run, recording: Path, photo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.sigmf-meta"
    assert run("send", photo, "--to", other, "--model", "deepjscc")[0] == 0
    stream = np.concatenate([samples_of(other), samples_of(recording)])
    path = write_iq(tmp_path / "both.sigmf-meta", "cf32_le", stream.tobytes())
    code, out, _ = run("receive", "--from", path, "--out", tmp_path / "out", "--json")
    first, second = json.loads(out)["images"]
    assert code == 0 and first["file"] is None and "weights" in first["reason"] and second["file"]
    assert Path(first["kept"]).is_file()


def test_bad_recordings_are_refused(run: Run, recording: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    refused(run("receive", "--from", tmp_path / "absent.sigmf-meta", *out), "absent")
    refused(run("receive", "--from", write_iq(tmp_path / "a.sigmf-meta", "cf32_le", b""), *out), "empty")
    refused(
        run("receive", "--from", write_iq(tmp_path / "b.sigmf-meta", "rf64_le", struct.pack("<4d", 0, 0, 0, 0)), *out),
        "rf64_le",
    )
    (tmp_path / "c.sigmf-meta").write_text("{")
    refused(run("receive", "--from", tmp_path / "c.sigmf-meta", *out), "JSON")


def test_a_damaged_recording_gives_what_came_and_says_why_the_rest_did_not(
    run: Run, recording: Path, tmp_path: Path
) -> None:
    """At another rate, clipped, with a hole, and without its last packet's second half."""
    sent = samples_of(recording)
    stream = on_air(sent, 6, 12_000.0)[: -sent.size // 4 - 12_000]
    faster = np.fft.ifft(np.insert(np.fft.fft(stream), stream.size // 2, np.zeros(stream.size // 4))) * 1.25
    data = np.clip(faster.astype(np.complex64).view(np.float32) * 6 * 128, -128, 127).astype(np.int8)
    path = write_iq(tmp_path / "heard.sigmf-meta", "ci8", data.tobytes())
    meta = json.loads(path.read_text())
    meta["global"]["core:sample_rate"] = 5e6
    meta["captures"] = [
        {"core:sample_start": 0, "core:global_index": 0},
        {"core:sample_start": 20_000, "core:global_index": 40_000},
    ]
    path.write_text(json.dumps(meta))
    code, out, err = run("receive", "--from", path, "--steps", 0, "--out", tmp_path / "out", "--json")
    report = json.loads(out)
    assert code == 0, err
    notes = " ".join(report["notes"])
    assert all(word in notes for word in ("resampled from 5 Msps by 4/5", "clipped", "20000 samples were not recorded"))
    assert all("after it ends" in report["images"][-1]["incomplete"] or image["file"] for image in report["images"])
    code, out, err = run("receive", "--from", path, "--steps", 0, "--out", tmp_path / "out")
    assert code == 0 and "incomplete" not in out and "after it ends" in out and "clipped" in err


def test_inspect_draws_and_counts_what_receive_hears(run: Run, recording: Path, tmp_path: Path) -> None:
    raw = tmp_path / "heard.cf32"
    raw.write_bytes(on_air(samples_of(recording), 5, -31_000.0).astype(np.complex64).tobytes())
    refused(run("inspect", raw, "--out", tmp_path / "out"), "--rate-hz")
    refused(run("inspect", raw, "--rate-hz", "1e5", "--out", tmp_path / "out"), "heard.cf32", "Msps")
    code, out, err = run("inspect", raw, "--rate-hz", "4e6", "--out", tmp_path / "out", "--json")
    report = json.loads(out)
    assert code == 0, err
    assert report == json.loads((tmp_path / "out" / "inspect.json").read_text())
    assert [image["packets_received"] for image in report["images"]] == [
        image["packets_expected"] for image in report["images"]
    ]
    assert len(report["images"]) == 2 and abs(report["packets"][0]["cfo_hz"] + 31_000) < 100
    assert load_image(tmp_path / "out" / "inspect.png").shape[1] == 1400
    code, out, _ = run("inspect", raw, "--rate-hz", "4e6", "--out", tmp_path / "out")
    assert code == 0 and "packets rejected: none" in out and "inspect.png" in out


def test_doctor_names_what_is_there(run: Run) -> None:
    code, out, _ = run("doctor", "--seed", 3, "--json")
    report = json.loads(out)
    names = {check["name"] for check in report["checks"] if check["ok"]}
    assert {"GNU Radio", "SoapySDR", "torch"} <= names
    assert code == (0 if report["ok"] else 1)
