"""The software channel as a device: what is transmitted comes back through it, among noise, in one process."""

from collections import deque
from collections.abc import Sequence

import numpy as np
from jaxtyping import Complex64

from sdr.channel import Channel
from sdr.devices.base import Chunk, Device
from sdr.errors import SdrError
from sdr.fading import CHANNELS
from sdr.impairments import apply_channel, draw_channel, noise_variance
from sdr.noise import complex_normal
from sdr.transmit import PacketSpan
from sdr.waveform import Waveform

_CHUNK_SAMPLES = 4096
_GAP_SAMPLES = 1000


class LoopbackDevice(Device):
    """Endless noise at the channel's level, with each burst in it; it runs as fast as it is read.

    Its clock counts samples read. A burst without a time follows 1000 samples after what was read or sent before.
    """

    kind = "loopback"
    timed = True

    def __init__(self, channel: Channel, waveform: Waveform, rng: np.random.Generator) -> None:
        super().__init__(f"loopback:{channel.fading}", waveform.sample_rate_hz)
        self._channel, self._waveform, self._rng = channel, waveform, rng
        self._noise = np.float32(np.sqrt(noise_variance(channel.snr_db, waveform) if self._noisy else 0.0))
        self._position = 0
        self._bursts: deque[tuple[int, np.ndarray]] = deque()  # with the sample at which each begins

    @property
    def _noisy(self) -> bool:
        return CHANNELS[self._channel.fading].noisy

    def now_s(self) -> float:
        """Samples read so far, in seconds."""
        return self._position / self.rate_hz

    def _start(self) -> None:
        pass

    def _read(self, timeout_s: float) -> Chunk:
        begin, end = self._position, self._position + _CHUNK_SAMPLES
        samples = self._noise * complex_normal(self._rng, (_CHUNK_SAMPLES,))
        for start, burst in self._bursts:
            first, last = max(start, begin), min(start + burst.size, end)
            if first < last:  # a burst brings its own noise
                samples[first - begin : last - begin] = burst[first - start : last - start]
        while self._bursts and self._bursts[0][0] + self._bursts[0][1].size <= end:
            self._bursts.popleft()
        self._position = end
        return Chunk(samples, begin / self.rate_hz)

    def _stop(self) -> None:
        pass

    def _transmit(self, samples: Complex64[np.ndarray, "n"], spans: Sequence[PacketSpan], at_s: float | None) -> None:
        busy = max([self._position, *(start + burst.size for start, burst in self._bursts)])
        start = busy + _GAP_SAMPLES if at_s is None else round(at_s * self.rate_hz)
        if start < busy:
            if start < self._position:
                self.counters.late += 1
                return
            raise SdrError(f"{self.name} still sends another burst at {at_s:g} s")
        packets = spans or (PacketSpan(0, samples.size),)
        drawn = draw_channel(self._channel, self._waveform, len(packets), self._rng, delay_samples=0.0)
        self._bursts.append((start, apply_channel(samples, packets, drawn)))

    def _close(self) -> None:
        self._bursts.clear()
