"""Sending one burst through a SoapySDR driver: padded if there is no hardware time, and waited for until it is out."""

import time
from typing import Any

import numpy as np
from jaxtyping import Complex64

from sdr.devices.base import Counters
from sdr.devices.fetch import POLL_US, SILENCE_S, vanished

LEAD_S = 0.1
"""From now to a timed burst that was given no time of its own."""
LEAD_BUFFERS, TAIL_BUFFERS = 5, 2
"""Zeros around a burst without a time, in buffers of the driver. A HackRF drops or garbles the first four after it was
switched to sending, sends nothing before a buffer of 131,072 samples is full, may repeat its last one, and loses what
is not yet out when it stops (SoapyHackRF issue 21; hackrf issues 660 and 1444)."""
TAIL_SAMPLES = 1024
"""Zeros after a timed burst, which the radio's filters may cut."""


def send_burst(
    soapy: Any,
    driver: Any,
    stream: Any,
    samples: Complex64[np.ndarray, "n"],
    *,
    start_s: float | None,
    rate_hz: float,
    name: str,
    counters: Counters,
) -> None:
    """Write a burst into an active stream and return when it has been radiated.

    `start_s` is its time by the radio's clock; None for radios without one. Faults go into `counters`. Raises
    DeviceError if the radio has vanished.
    """
    buffer = int(driver.getStreamMTU(stream))
    if start_s is None:
        head = LEAD_BUFFERS * buffer
        padded = np.pad(samples, (head, TAIL_BUFFERS * buffer + -samples.size % buffer))
        signal_s = (head + samples.size) / rate_hz
        slack_s = (padded.size + 2 * buffer) / rate_hz - signal_s
    else:
        padded = np.pad(samples, (0, TAIL_SAMPLES))
        signal_s = start_s - driver.getHardwareTime() * 1e-9 + samples.size / rate_hz
        slack_s = LEAD_S
    begun = _write(soapy, driver, stream, padded, buffer, start_s, signal_s, name, counters)
    _drain(soapy, driver, stream, begun + signal_s, slack_s, counters)


def _write(
    soapy: Any,
    driver: Any,
    stream: Any,
    padded: Complex64[np.ndarray, "n"],
    buffer: int,
    start_s: float | None,
    signal_s: float,
    name: str,
    counters: Counters,
) -> float:
    """Give the driver all samples; returns the local time at which it took the first."""
    done = 0
    begun = moved = time.monotonic()
    while done < padded.size:
        piece = padded[done : done + buffer]
        flags = soapy.SOAPY_SDR_END_BURST if done + piece.size == padded.size else 0
        if start_s is not None and done == 0:
            flags |= soapy.SOAPY_SDR_HAS_TIME
        time_ns = round((start_s or 0.0) * 1e9)
        result = driver.writeStream(stream, [piece], piece.size, flags, time_ns, timeoutUs=POLL_US)
        if result.ret > 0:
            moved = time.monotonic()
            begun = moved if done == 0 else begun
            done += result.ret
        elif result.ret == soapy.SOAPY_SDR_UNDERFLOW:
            counters.underflows += done > 0  # before the first sample there was nothing to run out of
        elif result.ret not in (0, soapy.SOAPY_SDR_TIMEOUT):
            raise vanished(name, soapy.errToStr(result.ret))
        elif time.monotonic() - moved > SILENCE_S + signal_s:
            raise vanished(name, f"it has taken no samples for {time.monotonic() - moved:.0f} s")
    return begun


def _drain(soapy: Any, driver: Any, stream: Any, signal_end: float, slack_s: float, counters: Counters) -> None:
    """Wait until everything is out, and hear what went wrong; to run dry after the signal is no fault."""
    while (left := signal_end + slack_s - time.monotonic()) > 0:
        status = driver.readStreamStatus(stream, timeoutUs=int(min(1e6 * left, POLL_US)))
        if status.ret == soapy.SOAPY_SDR_UNDERFLOW:
            counters.underflows += time.monotonic() < signal_end
        elif status.ret == soapy.SOAPY_SDR_TIME_ERROR:
            counters.late += 1
            return
        elif status.ret == 0 and status.flags & soapy.SOAPY_SDR_END_BURST:
            return
        elif status.ret == soapy.SOAPY_SDR_NOT_SUPPORTED:
            time.sleep(min(left, 0.1))
        else:
            time.sleep(1e-3)  # some drivers answer at once that nothing happened
