"""The blocks in a flowgraph, with stand-ins for the networks: they give exactly what the pure functions give."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pmt
import pytest
from gnuradio import blocks, filter, gr

from flowgraphs import pictures, run
from flowgraphs.blocks import transmitter as transmitter_module
from flowgraphs.blocks.decoder import Decoder
from flowgraphs.blocks.monitor import Monitor
from flowgraphs.blocks.receiver import Receiver
from flowgraphs.blocks.transmitter import Transmitter
from flowgraphs.bursts import Timing, make_burst
from flowgraphs.errors import LinkError
from flowgraphs.exchange import read_image
from sdr import receive
from sdr.waveform import DEFAULT
from tests.flowgraphs.helpers import FakeDecoder, FakeEncoder, outgoing
from tests.flowgraphs.test_exchange import received, same
from tests.sdr.helpers import mean_error, passage
from tests.sdr.helpers import receive as heard

TAIL = 2_400_000
"""Longer than the receiver waits for packets."""


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    fake = FakeEncoder(outgoing(1), outgoing(2))
    monkeypatch.setattr(transmitter_module, "Encoder", lambda *words, **options: fake)
    return fake


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> FakeDecoder:
    fake = FakeDecoder(delay_s=0.2)
    monkeypatch.setattr(pictures, "open_decoder", lambda address, model: fake)
    return fake


def fly(source: gr.basic_block, receiver: Receiver, decode: Decoder) -> int:
    """Run them one after another to the end; exit code."""
    graph = gr.top_block(catch_exceptions=False)
    graph.connect(source, receiver)
    graph.msg_connect(receiver, "images", decode, "images")
    graph.run()
    return run.finish_receiving(receiver, decode)


def test_a_transmitter_gives_tagged_bursts_and_then_ends(encoder: FakeEncoder) -> None:
    source, sink, shown = (
        Transmitter("x", timing=Timing(lead_samples=500, multiple=1000)),
        blocks.vector_sink_c(),
        blocks.message_debug(),
    )
    graph = gr.top_block(catch_exceptions=False)
    graph.connect(source, sink)
    graph.msg_connect(source, "pictures", shown, "store")
    graph.run()
    expected = [
        make_burst(outgoing(number), DEFAULT, Timing(lead_samples=lead, multiple=1000)).samples
        for number, lead in ((1, 500), (2, 0))
    ]
    assert np.array_equal(np.array(sink.data(), np.complex64), np.concatenate(expected))
    assert [(tag.offset, pmt.to_python(tag.value)) for tag in sink.tags()] == [
        (0, expected[0].size),
        (expected[0].size, expected[1].size),
    ]
    assert encoder.closed.is_set() and source.sent == 2 and not source.over and run.finish_sending(source) == 0


def test_a_transmitter_that_fills_gives_silence_for_ever(encoder: FakeEncoder) -> None:
    source, head, sink = Transmitter("x", fill=True), blocks.head(8, 3_000_000), blocks.vector_sink_c()
    graph = gr.top_block(catch_exceptions=False)
    graph.connect(source, head, sink)
    graph.run()
    samples = np.array(sink.data(), np.complex64)
    expected = [make_burst(outgoing(number), DEFAULT, Timing()).samples for number in (1, 2)]
    assert np.array_equal(samples[samples != 0], np.concatenate([burst[burst != 0] for burst in expected]))
    assert not samples[-1] and not sink.tags()


def test_an_encoder_that_fails_ends_the_flowgraph_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeEncoder(error=LinkError("picture 'x' does not exist"))
    monkeypatch.setattr(transmitter_module, "Encoder", lambda *words, **options: fake)
    source, sink = Transmitter("x"), blocks.null_sink(8)
    graph = gr.top_block(catch_exceptions=False)
    graph.connect(source, sink)
    graph.run()
    assert source.over and run.finish_sending(source) == 2
    assert capsys.readouterr().err.endswith(": picture 'x' does not exist\n")


def test_images_pass_bit_for_bit_and_none_is_lost_at_the_end(
    encoder: FakeEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also the one that is complete only when the stream has ended."""
    keep = Decoder(str(tmp_path), "none")
    assert fly(Transmitter("x"), Receiver(), keep) == 0
    receiver = receive.Receiver(DEFAULT)
    stream = np.concatenate([make_burst(outgoing(number), DEFAULT, Timing()).samples for number in (1, 2)])
    expected = receiver.push(stream) + receiver.flush()
    assert len(expected) == 2
    for number, image in enumerate(expected):
        assert same(read_image(tmp_path / f"received_{number:03d}.npz"), image)
    assert "2 images received, 0 decoded; 6 packets, 48576 samples" in capsys.readouterr().out


def test_the_scheduler_never_waits_for_the_decoder(encoder: FakeEncoder, decoder: FakeDecoder, tmp_path: Path) -> None:
    decode = Decoder(str(tmp_path), steps="3", seed=4)
    begun_s = time.monotonic()
    for number in range(50):
        decode.take(received(number))
    assert time.monotonic() - begun_s < 0.1 < 0.2 == decoder._delay_s
    assert fly(Transmitter("x", timing=Timing(silence_samples=TAIL)), Receiver(), decode) == 0
    assert decode.done == decode.decoded == 52 and decode.missed == 0 and decoder.closed
    assert len(decoder.threads) == 1 and decoder.jobs[0][-2:] == (3, 4)
    assert len(list(tmp_path.glob("received_*.png"))) == 52


def test_it_ends_after_the_asked_number_of_images(decoder: FakeDecoder, tmp_path: Path) -> None:
    decode = Decoder(str(tmp_path), images=2)
    decode.take(received(1))
    while decode.done < 1:
        time.sleep(0.01)
    assert not decode.over
    decode.take(received(2))
    decode.finish()
    assert decode.over and decode.problem is None


def test_finishing_twice_keeps_what_is_not_decoded(decoder: FakeDecoder, tmp_path: Path) -> None:
    decoder._delay_s = 1e9
    decode = Decoder(str(tmp_path))
    decode.take(received(1))
    first = threading.Thread(target=decode.finish)
    first.start()
    time.sleep(0.2)
    assert first.is_alive()
    decode.finish()
    first.join(5)
    assert not first.is_alive() and decode.missed == 1
    assert same(read_image(tmp_path / "received_000.npz"), received(1))


def test_a_full_disk_ends_it_with_the_reason(
    decoder: FakeDecoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    decode = Decoder(str(folder))
    folder.rmdir()
    folder.write_text("in the way")
    decode.take(received(1))
    decode.finish()
    assert decode.over and decode.problem is not None and decode.problem in capsys.readouterr().err


def test_noise_alone_is_no_image_and_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).standard_normal((200_000, 2)) @ [1, 1j]
    decode = Decoder(str(tmp_path), "none")
    assert fly(blocks.vector_source_c(noise.tolist()), Receiver(), decode) == 1 and decode.done == 0


def test_a_radio_that_falls_silent_ends_the_flowgraph(capsys: pytest.CaptureFixture[str]) -> None:
    class Silent(gr.sync_block):  # type: ignore[misc]
        def __init__(self) -> None:
            gr.sync_block.__init__(self, name="silent", in_sig=None, out_sig=[np.complex64])

        def work(self, input_items: Any, output_items: Any) -> int:
            time.sleep(0.05)
            return 0

    source, receiver = Silent(), Receiver(silence_s=0.3)
    graph = gr.top_block(catch_exceptions=False)
    graph.connect(source, receiver)
    assert not receiver.over
    graph.start()
    run.watch(graph.stop, receiver)
    graph.wait()
    assert "given no samples for 0.3 s" in capsys.readouterr().err


def test_a_strong_dc_needs_no_block_before_the_receiver() -> None:
    """30 dB above the signal it costs nothing, and GNU Radio's DC blocker gains nothing, or costs carriers."""
    flight = passage(1, snr_db=20.0, cfo_hz=30e3)
    samples = np.pad(flight.samples, 100_000)
    with_dc = samples + np.complex64(DEFAULT.tx_rms * 10**1.5 * np.exp(1j))

    def error_db(stream: np.ndarray, length: int | None) -> float:
        source, sink = blocks.vector_source_c(stream.tolist()), blocks.vector_sink_c()
        graph = gr.top_block(catch_exceptions=False)
        graph.connect(*([source, sink] if length is None else [source, filter.dc_blocker_cc(length, True), sink]))
        graph.run()
        (image,) = heard(np.array(sink.data(), np.complex64))
        return float(10 * np.log10(mean_error(flight.symbols, image)))

    alone = error_db(with_dc, None)
    assert alone == pytest.approx(error_db(samples, None), abs=0.05)
    assert error_db(with_dc, 1 << 16) > alone - 0.05
    assert error_db(with_dc, 256) > alone + 0.5


def test_the_monitor_shows_the_last_packet(encoder: FakeEncoder) -> None:
    source, receiver, monitor = Transmitter("x", fill=True, timing=Timing(pause_s=0.2)), Receiver(), Monitor()
    throttle = blocks.throttle(8, 2e6)
    sinks = [blocks.vector_sink_c(640), blocks.vector_sink_c(640), blocks.vector_sink_f(177), blocks.vector_sink_f(200)]
    graph = gr.top_block(catch_exceptions=False)
    graph.connect(source, throttle, receiver)
    graph.msg_connect(receiver, "packets", monitor, "packets")
    for port, sink in enumerate(sinks):
        graph.connect((monitor, port), sink)
    graph.start()
    run.watch(graph.stop, seconds=2.0)
    graph.wait()
    payload, header, channel, history = (np.array(sink.data()) for sink in sinks)
    assert header.size and header.size == payload.size
    assert np.abs(np.abs(header[-640:].real) - 1).max() < 0.1 and np.mean(np.abs(payload) ** 2) == pytest.approx(
        1, abs=0.2
    )
    assert np.abs(channel[-177:]).max() < 1 and history[-1] > 30
