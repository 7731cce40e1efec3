"""Several radios on one air: lock-step, clocks, bursts, and everything that ends or goes wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zmq

from tests.native.radio import (
    END_BURST,
    HAS_TIME,
    LONGEST_S,
    OVERFLOW,
    RATE_HZ,
    RX,
    STREAM_ERROR,
    TIME_ERROR,
    TIMEOUT,
    TX,
    UNDERFLOW,
    Radio,
    Radios,
    exchange,
    mean_power_db,
    noise,
    tone,
)

ROOT = Path(__file__).parents[2]
SENDER = """
import sys
import numpy as np
from tests.native.radio import TX, Radio, noise
radio = Radio(sys.argv[1], "ideal")
samples = noise(50_000)
assert radio.activate(TX) == 0
print("sends", flush=True)
for _ in range(int(sys.argv[2])):
    written = 0
    while written < len(samples):
        written += max(radio.write(samples[written:]), 0)
radio.deactivate(TX)
"""
RECEIVER = """
import sys
from tests.native.radio import RX, Radio
radio = Radio(sys.argv[1], "ideal")
assert radio.activate(RX) == 0
print("receives", flush=True)
while True:
    radio.read_once(50_000)
"""


@contextmanager
def process(source: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A radio in a process of its own, once it said that it is there."""
    command = [sys.executable, "-c", source, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None and started.stdout.readline()
            yield started
        finally:
            started.kill()


def wait_for(what: str, condition: Callable[[], object]) -> None:
    end = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def test_two_processes_pass_every_sample_in_lock_step(radios: Radios) -> None:
    receiver = radios("alice")
    receiver.activate(RX)
    with process(SENDER, "bob", 20) as sender:
        heard = np.zeros(0, np.complex64)
        while not heard.any():
            heard = receiver.read(10_000)
        start = int(np.flatnonzero(heard)[0])
        received = np.concatenate([heard[start:], receiver.read(20 * 50_000 - len(heard) + start)])
        assert np.array_equal(received, np.tile(noise(50_000), 20))
        assert sender.wait(LONGEST_S) == 0


def test_a_killed_sender_leaves_silence_and_comes_back(radios: Radios) -> None:
    receiver = radios("alice")
    receiver.activate(RX)
    for _ in range(2):  # the second has the serial number of the one that was killed
        with process(SENDER, "bob", 10_000) as sender:
            wait_for("the sender is heard", lambda: receiver.read(10_000).any())
            sender.send_signal(signal.SIGKILL)
            sender.wait()
        wait_for("silence", lambda: not receiver.read(10_000).any())
    assert receiver.sensor("overflows") == 0


def test_a_killed_receiver_does_not_hold_up_the_sender(radios: Radios) -> None:
    sender = radios("bob", patience_s=1000)
    sender.activate(TX)
    samples = noise(100_000)
    with process(RECEIVER, "alice") as receiver:
        for _ in range(20):  # twice its buffer
            wait_for("room", lambda: sender.write(samples) > 0)
        receiver.send_signal(signal.SIGKILL)
        receiver.wait()
        for _ in range(200):
            wait_for("room although nobody reads", lambda: sender.write(samples) > 0)


def test_a_receiver_that_stops_reading_is_waited_for_and_then_overflows(radios: Radios) -> None:
    sender, receiver = radios("bob", patience_s=0.3), radios("alice")
    sender.device.setSampleRate(TX, 0, 50e6)
    receiver.activate(RX)
    sender.activate(TX)
    samples, written = noise(200_000), 0
    begun = time.monotonic()
    while written < 6_000_000:  # more than is ever kept for anybody
        written += max(sender.write(samples), 0)
        assert time.monotonic() - begun < LONGEST_S
    codes = [receiver.read_once(10_000)[0] for _ in range(20)]
    assert OVERFLOW in codes and receiver.sensor("overflows") == 1
    assert max(codes) > 0  # and goes on


def test_a_sender_that_stops_writing_is_waited_for_and_then_silent(radios: Radios) -> None:
    sender, receiver = radios("bob", "hackrf", idle_s=0.2, peers=1), radios("alice", "hackrf", peers=1)
    receiver.activate(RX)
    sender.activate(TX)
    assert sender.write(noise(131_072)) == 131_072
    receiver.read(3 * 131_072)
    assert sender.status().ret == UNDERFLOW
    assert sender.sensor("underflows") == 1


def test_a_stopped_process_is_left_out_after_a_while(radios: Radios) -> None:
    receiver = radios("alice")
    receiver.activate(RX)
    with process(SENDER, "bob", 10_000) as sender:
        wait_for("the sender is heard", lambda: receiver.read(10_000).any())
        sender.send_signal(signal.SIGSTOP)
        wait_for("silence", lambda: not receiver.read(10_000).any())
        assert receiver.sensor("silenced") >= 1
        sender.send_signal(signal.SIGCONT)
        wait_for("the sender is heard again", lambda: receiver.read(10_000).any())


def test_two_receivers_hear_the_same(radios: Radios) -> None:
    sender = radios("bob", peers=2)
    receivers = [radios(name, peers=2) for name in ("alice", "carol")]
    sent = noise(300_000)
    for receiver in receivers:
        receiver.activate(RX)
    sender.activate(TX)
    got: list[list[np.ndarray]] = [[], []]
    written = 0
    end = time.monotonic() + LONGEST_S
    while min(sum(map(len, parts)) for parts in got) < 250_000:
        assert time.monotonic() < end
        written += max(sender.write(sent[written:], timeout_us=1000), 0) if written < len(sent) else 0
        for receiver, parts in zip(receivers, got, strict=True):
            parts.append(receiver.read_once(20_000, timeout_us=10_000)[1])
    for parts in got:
        assert np.array_equal(np.concatenate(parts)[:250_000], sent[:250_000])


def test_a_slow_receiver_misses_nothing(radios: Radios) -> None:
    """The sender keeps what the slowest has not had, and is held up when its buffer of 1,048,576 samples is full."""
    sender, fast, slow = (radios(name, peers=2) for name in ("bob", "alice", "carol"))
    sent = noise(1_500_000)
    for receiver in (fast, slow):
        receiver.activate(RX)
    sender.activate(TX)
    written = 0
    while (done := sender.write(sent[written:], timeout_us=200_000)) > 0:
        written += done
    assert 1_000_000 < written <= 1_048_576
    for receiver in (fast, slow):
        parts, left = [], 900_000  # as far ahead as the fast one may be
        end = time.monotonic() + LONGEST_S
        while left > 0 and time.monotonic() < end:
            parts.append(receiver.read_once(left)[1])
            left -= len(parts[-1])
        assert np.array_equal(np.concatenate(parts), sent[:900_000])


def test_two_senders_add_up(radios: Radios) -> None:
    senders = [radios(name, peers=1) for name in ("bob", "carol")]
    receiver = radios("alice", peers=2)
    receiver.activate(RX)
    sent = [noise(100_000, seed=1), noise(100_000, seed=2)]
    for sender, samples in zip(senders, sent, strict=True):
        sender.activate(TX)
        assert sender.write(samples[:16_384]) == 16_384
    received = receiver.read(16_000)
    assert np.array_equal(received, (sent[0] + sent[1])[:16_000])


def test_half_duplex_refuses_the_other_direction(radios: Radios, capfd: pytest.CaptureFixture[str]) -> None:
    import SoapySDR

    SoapySDR.setLogLevel(SoapySDR.SOAPY_SDR_INFO)  # the project's own device silences it for the whole process
    radio = radios("alice", "hackrf")
    assert radio.activate(TX) == 0
    assert radio.activate(RX) < 0
    assert "half duplex" in capfd.readouterr().err
    radio.deactivate(TX)
    assert radio.activate(RX) == 0
    assert radio.activate(TX) < 0


def test_full_duplex_does_both(radios: Radios) -> None:
    one, other = radios("alice", "b210"), radios("bob", "b210")
    for radio in (one, other):
        assert radio.activate(TX) == 0 and radio.activate(RX) == 0
    for radio in (one, other):
        radio.write(noise(5000), flags=END_BURST)
    for radio in (one, other):
        radio.read(10_000)


def test_timed_bursts_start_when_they_should(radios: Radios) -> None:
    sender, receiver = radios("bob"), radios("alice")
    receiver.activate(RX)
    sender.activate(TX)
    receiver.read(1000)
    burst = noise(3000)
    now_ns = sender.device.getHardwareTime("")
    starts = [now_ns + 10_000_000, now_ns + 15_000_000]
    for start in starts:
        assert sender.write(burst, flags=HAS_TIME | END_BURST, time_ns=start) == 3000
    samples: list[np.ndarray] = []
    times: list[int] = []
    while not times or times[-1] < starts[-1] + 2_000_000:
        code, block, time_ns = receiver.read_once(100_000)
        if code > 0:
            samples.append(block)
            times.append(time_ns)
    stream = np.concatenate(samples)
    begins = [round((start - times[0]) * RATE_HZ / 1e9) for start in starts]
    expected = np.zeros_like(stream)
    for begin in begins:
        expected[begin : begin + 3000] = burst
    assert np.array_equal(stream, expected)


def test_a_burst_too_late_is_dropped_and_reported(radios: Radios) -> None:
    sender, receiver = radios("bob"), radios("alice")
    receiver.activate(RX)
    sender.activate(TX)
    receiver.read(40_000)
    assert sender.write(noise(1000), flags=HAS_TIME | END_BURST, time_ns=1_000_000) == 1000
    assert sender.status().ret == TIME_ERROR
    assert not receiver.read(20_000).any()
    assert sender.write(noise(1000), flags=END_BURST) == 1000  # the next one is not
    assert receiver.read(40_000).any()


def test_the_end_of_a_burst_is_reported(radios: Radios) -> None:
    sender, receiver = radios("bob"), radios("alice")
    receiver.activate(RX)
    sender.activate(TX)
    assert sender.write(noise(1000), flags=END_BURST) == 1000
    assert sender.status(1000).ret == TIMEOUT  # it is not over yet
    receiver.read(100_000)
    status = sender.status()
    assert status.ret == 0 and status.flags & END_BURST


def test_alone_there_is_noise_and_no_hurry(radios: Radios) -> None:
    radio = radios("alice", "b210")
    radio.device.setGain(RX, 0, "PGA", 70.0)
    radio.activate(RX)
    radio.activate(TX)
    begun = time.monotonic()
    assert radio.read(800_000).std() > 0
    assert time.monotonic() - begun > 0.1  # 0.2 s of air; 0.05 may be made up for
    written = 0
    begun = time.monotonic()
    while written < 800_000:
        written += max(radio.write(noise(16_384)), 0)
    assert time.monotonic() - begun > 0.1


@pytest.mark.parametrize("profile", ["hackrf", "b210"])
def test_real_pace_keeps_to_the_clock(profile: str, radios: Radios) -> None:
    sender, receiver = (radios(name, profile, pace="real", idle_s=0) for name in ("bob", "alice"))
    for radio in (sender, receiver):
        for gain in radio.device.listGains(TX, 0):
            radio.device.setGain(TX, 0, gain, 40.0)
        for gain in radio.device.listGains(RX, 0):
            radio.device.setGain(RX, 0, gain, 10.0)
    begun = time.monotonic()
    receiver.activate(RX)
    sender.activate(TX)
    wave, written = tone(100e3, 8 * 131_072), 0
    got: list[np.ndarray] = []
    while written < len(wave) or not got:
        assert time.monotonic() - begun < LONGEST_S
        written += max(sender.write(wave[written : written + 131_072], timeout_us=1000), 0)
        code, block, _ = receiver.read_once(131_072, timeout_us=1000)
        assert code > 0 or code in (TIMEOUT, OVERFLOW)
        got.append(block)
    for _ in range(10):
        got.append(receiver.read_once(131_072)[1])
    assert sum(map(len, got)) <= (time.monotonic() - begun) * RATE_HZ * 1.001 + 131_072
    spectrum = np.abs(np.fft.fft(np.concatenate(got)))
    line = abs(np.fft.fftfreq(len(spectrum), 1 / RATE_HZ)[1 + np.argmax(spectrum[1:])])
    assert 0 < line < 250e3  # the tone, and not noise


def test_overflow_and_underflow_on_demand(radios: Radios) -> None:
    sender, receiver = radios("bob", peers=1), radios("alice", peers=1)
    receiver.device.writeSetting("overflow_every_samples", "20000")
    receiver.activate(RX)
    sender.activate(TX)
    sent = noise(200_000)
    written = 0
    codes = []
    while receiver.sensor("overflows") < 2:
        written += max(sender.write(sent[written:], timeout_us=1000), 0) if written < len(sent) else 0
        codes.append(receiver.read_once(5000)[0])
    assert codes.count(OVERFLOW) == 2
    sender.device.writeSetting("underflow_every_samples", "1000")
    for _ in range(3):
        sender.write(sent[:1000])
    assert sender.sensor("underflows") >= 1
    assert sender.status().ret == UNDERFLOW


def test_what_is_no_message_is_ignored_and_counted(radios: Radios, air: Path) -> None:
    sender, receiver = radios("bob", peers=1), radios("alice", peers=1)
    rng = np.random.default_rng(5)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(f"ipc://{air}/bob.sock")
        good = b"LAA1" + bytes([2, 0, 0, 0]) + bytes(104)
        for frames in (
            [b""],
            [b"", b""],
            [rng.bytes(112)],
            [good[:100]],
            [good],
            [b"LAA1" + rng.bytes(108)],
            [bytes(60_000)],
        ):
            socket.send_multipart(frames)
        wait_for("all are counted", lambda: sender.sensor("malformed") == 7)
    sent = noise(50_000)
    assert np.array_equal(exchange(sender, receiver, sent, len(sent)), sent)


def test_an_impostor_is_no_radio(radios: Radios, air: Path) -> None:
    """A live device whose socket answers nonsense is left out, and does not stop the others."""
    receiver = radios("alice")
    program = f"""
import fcntl, sys, zmq
lock = open({str(air / "eve.lock")!r}, "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
socket = zmq.Context().socket(zmq.ROUTER)
socket.bind({"ipc://" + str(air / "eve.sock")!r})
print("there", flush=True)
while True:
    who, _ = socket.recv_multipart()
    socket.send_multipart([who, b"nonsense"])
"""
    with process(program):
        receiver.activate(RX)
        assert not receiver.read(50_000).any()
        assert receiver.sensor("malformed") > 0


def test_settings_may_change_while_samples_flow(radios: Radios) -> None:
    sender, receiver = radios("bob", peers=1), radios("alice", peers=1)
    receiver.activate(RX)
    sender.activate(TX)
    sent = np.full(16_000, 0.5, np.complex64)
    for loss_db in (0.0, 20.0):
        receiver.device.writeSetting("path_loss_db", str(loss_db))
        assert sender.write(sent) == len(sent)
        assert mean_power_db(receiver.read(16_000)) == pytest.approx(-6.02 - loss_db, abs=0.01)
    receiver.device.setSampleRate(RX, 0, 2e6)
    assert sender.write(sent) == len(sent)
    assert mean_power_db(receiver.read(7000)[1000:]) == pytest.approx(-26.02, abs=0.01)


def test_nothing_stays_behind(radios: Radios, air: Path) -> None:
    radio = radios("alice")
    radio.activate(RX)
    radio.close()
    assert os.listdir(air) == []
    again = Radio("alice", "ideal")
    again.close()


def test_signals_disturb_nothing(radios: Radios) -> None:
    sender, receiver = radios("bob", peers=1), radios("alice", peers=1)
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        sent = noise(500_000)
        assert np.array_equal(exchange(sender, receiver, sent, 400_000), sent[:400_000])
        for _ in range(20):
            assert receiver.read_once(100, timeout_us=10_000)[0] in (100, TIMEOUT)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_hackrf_switched_off_at_once_loses_what_was_queued(radios: Radios) -> None:
    """At pace=real nine transfers are 0.3 s of air; deactivating stops the DAC, not the program."""
    sender, receiver = (radios(name, "hackrf", pace="real") for name in ("bob", "alice"))
    sender.device.setGain(TX, 0, "VGA", 47.0)
    receiver.activate(RX)
    sender.activate(TX)
    for _ in range(9):
        assert sender.write(tone(100e3, 131_072)) == 131_072
    sender.deactivate(TX)
    received = np.concatenate([receiver.read_once(131_072, timeout_us=200_000)[1] for _ in range(16)])
    assert np.count_nonzero(np.abs(received) > 0.3) < 6 * 131_072


def test_a_radio_can_be_unplugged(radios: Radios) -> None:
    radio = radios("alice", unplug_after_samples=50_000)
    radio.activate(RX)
    radio.read(50_000)
    assert radio.read_once(1000)[0] == STREAM_ERROR
    radio.activate(TX)
    assert radio.write(noise(100)) == STREAM_ERROR
