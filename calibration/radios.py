"""A campaign over two radios: each passage sent with the gain that gives its SNR, found in a closed loop."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Complex64

from calibration.errors import CampaignError
from calibration.measure import Outcome, measure, strongest
from calibration.plan import Stations
from calibration.points import Passage
from sdr import sequences
from sdr.devices.base import DeviceError
from sdr.devices.soapy import SoapyDevice, driver_arguments
from sdr.devices.tuning import TX
from sdr.errors import SdrError
from sdr.playback import Playback
from sdr.safety import TransmitGuard
from sdr.transmit import Transmission, transmit
from sdr.waveform import DEFAULT

TOLERANCE_DB = 0.5
"""How near the measured SNR must come to the one that is asked for."""
TRIES = 6
QUIETEST_DB = 12.0
"""How much the amplitude may be lowered below the lowest usable gain: 2 of a converter's bits."""
_PROBE_SYMBOLS = 8192
_PROBE_SESSION = 0xFFFF
_REPETITION = 4  # of the probe's side information, so that it is found at any SNR
_TAIL_S = 0.25
"""Of reception after the last sample was sent: what is still on its way through drivers and cables."""
_START_S = 10.0
_POLL_S = 0.01


class RadioAir:
    """Two radios as a campaign's air; context manager.

    The SNR of a passage is reached by a closed loop: a probe of known symbols is sent with the calibrated gain, the
    receiver measures its SNR, and the difference corrects the gain, until it is `TOLERANCE_DB` or less. Between the
    steps of the gain element, and a little below the lowest usable gain, the amplitude is lowered. The correction is
    kept for the passages that follow, so that of radios that stay as they are each passage costs one probe.

    Raises SdrError: no such radio, in use, or its station asks for what it has not.
    """

    def __init__(self, stations: Stations) -> None:
        sender, receiver = stations.sender, stations.receiver
        assert stations.calibration.tx_gain is not None and stations.calibration.transmit_element is not None
        self._curve, self._element = stations.calibration.tx_gain, stations.calibration.transmit_element
        assert sender.transmit is not None
        self._station, self._side = sender, replace(sender.transmit, gains=stations.calibration.transmit_gains)
        self._correction_db = 0.0
        self._receiver = SoapyDevice(driver_arguments("", receiver), receiver, DEFAULT, None)
        try:
            guard = TransmitGuard(sender, DEFAULT)
            self._sender = SoapyDevice(driver_arguments("", sender), sender, DEFAULT, guard)
        except BaseException:
            self._receiver.close()
            raise

    def __enter__(self) -> "RadioAir":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._sender.close()
        finally:
            self._receiver.close()

    def __call__(self, transmission: Transmission, snr_db: float) -> Complex64[np.ndarray, "n"]:
        """What is heard of a transmission at that SNR.

        Raises:
            SdrError: that SNR cannot be reached.
            CampaignError: a radio has vanished.
        """
        try:
            amplitude = self._settle(snr_db)
            return self._exchange(amplitude * transmission.samples)
        except DeviceError as error:
            raise CampaignError(f"{error}; the same command goes on when it is back") from error

    def describe(self) -> dict[str, Any]:
        """The state of both radios, for JSON."""
        return {"sender": self._sender.describe(), "receiver": self._receiver.describe()}

    def _settle(self, snr_db: float) -> float:
        """Set the gain for an SNR; gives the amplitude to send with."""
        probe = transmit(
            sequences.qpsk("snrprobe", _PROBE_SYMBOLS),
            b"probe",
            DEFAULT,
            session=_PROBE_SESSION,
            image_id=0,
            repetition=_REPETITION,
        )
        low_db, high_db = self._curve.usable_db
        calibrated_db = self._calibrated(snr_db)
        level_db, found = calibrated_db + self._correction_db, "nothing"
        for _ in range(TRIES):
            level_db = min(max(level_db, low_db - QUIETEST_DB), high_db)
            amplitude = self._set(level_db)
            heard = strongest([self._exchange(amplitude * probe.samples)], _PROBE_SESSION)
            if heard is None:
                continue  # lost, or drowned: the same again
            found, error_db = f"{heard.snr_db:.1f} dB", snr_db - heard.snr_db
            if abs(error_db) <= TOLERANCE_DB:
                self._correction_db = level_db - calibrated_db
                return amplitude
            level_db += error_db
        raise SdrError(
            f"an SNR of {snr_db:g} dB was not reached: {found} at the last of {TRIES} tries, gain {level_db:.1f} dB"
        )

    def _calibrated(self, snr_db: float) -> float:
        """Gain for an SNR; below the lowest usable one, how much less amplitude does it. Raises SdrError."""
        low_db = self._curve.usable_db[0]
        short_db = self._curve.snr_at(low_db) - snr_db
        return low_db - short_db if 0 < short_db <= QUIETEST_DB else self._curve.gain_for(snr_db)

    def _set(self, level_db: float) -> float:
        """Set the lowest gain from a level up; gives the amplitude that makes the rest. Raises SdrError."""
        span = self._sender.gain_ranges(TX)[self._element]
        gain_db = max(level_db, self._curve.usable_db[0])
        if span.step_db > 0:
            gain_db = span.minimum_db + math.ceil((gain_db - span.minimum_db) / span.step_db - 1e-6) * span.step_db
        gain_db = min(gain_db, span.maximum_db)
        side = replace(self._side, gains={**self._side.gains, self._element: gain_db})
        self._sender.retune(replace(self._station, transmit=side))
        return float(10 ** (min(level_db - gain_db, 0.0) / 20))

    def _exchange(self, samples: Complex64[np.ndarray, "n"]) -> Complex64[np.ndarray, "m"]:
        """Send, and give what the other radio hears from before until after."""
        playback, heard = Playback(self._receiver, DEFAULT), list[Complex64[np.ndarray, "_"]]()
        began, failures = threading.Event(), list[BaseException]()

        def listen() -> None:
            try:
                for chunk in playback:
                    if chunk.size:
                        heard.append(chunk)
                        began.set()
            except SdrError as error:
                failures.append(error)
            finally:
                began.set()

        thread = threading.Thread(target=listen, name="receiver", daemon=True)
        thread.start()
        try:
            if not began.wait(_START_S):
                raise DeviceError(f"{self._receiver.name} gave no samples within {_START_S:g} s")
            self._sender.transmit(samples)
            _wait_for(lambda: playback.samples, _TAIL_S * self._receiver.rate_hz, thread)
        finally:
            playback.stop()
            thread.join()
        if failures:
            raise failures[0]
        if playback.failure is not None:
            raise playback.failure
        return np.concatenate(heard) if heard else np.empty(0, np.complex64)


def _wait_for(samples: Callable[[], int], more: float, thread: threading.Thread) -> None:
    """Until so many samples more were received; not for ever, and not for a receiver that has ended."""
    enough, deadline = samples() + more, time.monotonic() + _START_S
    while samples() < enough and thread.is_alive() and time.monotonic() < deadline:
        thread.join(_POLL_S)


def over_radios(passages: Iterator[Passage], air: RadioAir) -> Iterator[Outcome]:
    """Outcomes of all passages, one after another: there is one air."""
    for passage in passages:
        yield measure(passage, air)
