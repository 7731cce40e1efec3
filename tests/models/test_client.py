"""What a receiver sees of the decoder: everything comes once, waits are bounded, and errors say what to do."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from models.client import DecoderFull, DecoderGone, open_decoder
from models.errors import ModelError
from models.pipeline import JsccCodec
from tests.models.service import collect, connect, serving, submit
from tests.models.small import picture, small_codec


def test_every_image_comes_back_as_what_was_submitted(tmp_path: Path) -> None:
    with serving(tmp_path), connect(tmp_path) as decoder:
        for grey in range(20):
            submit(decoder, f"key {grey}", grey)
        assert decoder.pending == 20
        results = collect(decoder, 20)
        assert decoder.pending == 0
    for grey in range(20):
        image = results[f"key {grey}"].image
        assert image is not None and image.shape == (2, 3, 3) and (image == grey).all()


def test_an_image_that_cannot_be_decoded_is_an_error_and_does_not_stop_the_others(tmp_path: Path) -> None:
    with serving(tmp_path), connect(tmp_path) as decoder:
        submit(decoder, "bad", 7, side=b"")
        submit(decoder, "good", 8)
        results = collect(decoder, 2)
    assert results["bad"].image is None and results["bad"].error == "side information of 0 bytes is cut short"
    assert results["good"].error is None


def test_no_more_is_taken_than_the_queue_holds_and_submitting_never_blocks(tmp_path: Path) -> None:
    with serving(tmp_path, capacity=3), connect(tmp_path) as decoder:
        decoder.greet()
        for number in range(3):
            submit(decoder, str(number), -3)
        with pytest.raises(DecoderFull, match="3 images are waiting for the service"):
            submit(decoder, "3", 4)
        results = collect(decoder, 3)
        submit(decoder, "3", 4)
        assert set(results | collect(decoder, 1)) == {"0", "1", "2", "3"}


def test_what_a_full_service_refused_is_sent_again_until_there_is_place(tmp_path: Path) -> None:
    with serving(tmp_path, capacity=2) as server, connect(tmp_path) as first, connect(tmp_path) as second:
        for decoder in (first, second):
            decoder.greet()
            for number in range(2):
                submit(decoder, str(number), -3)
        results = [collect(second, 2), collect(first, 2)]
        assert server.stats()["refused"]["full"] > 0
    assert all(result.error is None for found in results for result in found.values())


def test_a_service_that_is_gone_costs_a_bounded_wait_and_a_clear_line(tmp_path: Path) -> None:
    with connect(tmp_path, patience_s=0.5) as decoder:
        submit(decoder, "lost", 1)
        begun = time.monotonic()
        assert collect(decoder, 1)["lost"].error == "the service has not answered for 0.5 s"
        assert time.monotonic() - begun < 10
        with pytest.raises(DecoderGone, match="has not answered"):
            submit(decoder, "next", 2)


def test_a_service_that_comes_back_gets_what_it_had_lost(tmp_path: Path) -> None:
    with connect(tmp_path) as decoder:
        with serving(tmp_path):
            submit(decoder, "done", 1)
            collect(decoder, 1)
            for number in range(5):
                submit(decoder, f"in work {number}", -3)
            results = collect(decoder, 1)
        submit(decoder, "meanwhile", 3)
        with serving(tmp_path):
            results |= collect(decoder, 6 - len(results))
        assert decoder.pending == 0
    assert len(results) == 6 and all(result.error is None for result in results.values())


@pytest.mark.parametrize("address", ["zmq:udp://127.0.0.1:1", "tcp://127.0.0.1:1", "soapy:", ""])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ModelError, match="write zmq:tcp://HOST:PORT"):
        open_decoder(address, "lrisc")


def test_no_such_model_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model"):
        open_decoder(None, str(tmp_path))


def test_the_child_process_decodes_as_the_codec_does_and_survives_being_killed(tmp_path: Path) -> None:
    small_codec().save(tmp_path, "small", default_steps=1)
    codec = JsccCodec.from_pretrained(tmp_path)
    encoded = codec.encode(
        picture(40, 56), cbr=1 / 8, snr_hint_db=10.0, mask=None, side_symbols=lambda count: 8 * count
    )
    noise_var = np.full(len(encoded.symbols), 0.1, np.float32)
    expected = codec.decode(encoded.symbols, noise_var, 10.0, encoded.side, steps=2, seed=3)
    with open_decoder(None, str(tmp_path)) as decoder:
        child = decoder._child
        assert child is not None
        for key in ("first", "second"):
            decoder.submit(key, encoded.symbols, noise_var, 10.0, encoded.side, steps=2, seed=3)
        os.kill(child.process.pid, signal.SIGKILL)
        results = collect(decoder, 2, limit_s=120)
        folder = Path(child.address.removeprefix("ipc://")).parent
    assert not folder.exists()
    for result in results.values():
        assert result.image is not None
        assert np.abs(result.image.astype(int) - expected).max() <= 1
