"""From demodulated packets to images: placing, time-out, de-interleaving, side information."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Complex64, Float32

from sdr.framing import FramePlan, decode_side
from sdr.header import Header

_LEAST_SNR = 1e-4
"""Linear; an estimate of no signal at all is reported as -40 dB."""


@dataclass(frozen=True, eq=False)
class Packet:
    """A packet whose header was right."""

    header: Header
    start_sample: int
    end_sample: int
    symbols: Complex64[np.ndarray, "slots"]
    noise_var: Float32[np.ndarray, "slots"]
    signal: float
    """Mean received energy of a subcarrier, relative to the nominal one."""
    noise: float
    cfo_hz: float
    sfo_ppm: float
    missing_symbols: int
    """Payload OFDM symbols that are erased because samples of them are missing."""


@dataclass(frozen=True, eq=False)
class ReceivedImage:
    """One image as it came from the air, complete or not."""

    symbols: Complex64[np.ndarray, "n"]
    """JSCC symbols in the order sent; 0 where erased."""
    noise_var: Float32[np.ndarray, "n"]
    """Noise variance of each symbol relative to unit symbol power; infinite where erased."""
    side: bytes | None
    """None: the side information did not survive."""
    snr_db: float
    """Es/N0 per occupied data subcarrier, over the received packets."""
    cfo_hz: float
    sfo_ppm: float
    """How much faster than ours the sender's sample clock runs."""
    session: int
    image_id: int
    packets_received: int
    packets_cut: int
    """Of those received, how many lack OFDM symbols because samples are missing."""
    packets_expected: int
    start_sample: int
    """Start of the first received packet, counted from the first sample pushed."""


@dataclass
class _Pending:
    plan: FramePlan
    packets: dict[int, Packet] = field(default_factory=dict)
    last_sample: int = 0


class Assembler:
    """Collects packets by (session, image id, index)."""

    def __init__(self, image_limit: int) -> None:
        self._image_limit = image_limit
        self._pending: dict[tuple[int, int], _Pending] = {}

    def add(self, packet: Packet, plan: FramePlan) -> list[ReceivedImage]:
        """Place a packet and return the images that this completes or displaces.

        A packet that contradicts its image, or repeats an index, opens a new image: symbols are never mixed.
        """
        key = (packet.header.session, packet.header.image_id)
        done = []
        pending = self._pending.get(key)
        if pending is not None and (pending.plan != plan or packet.header.packet_index in pending.packets):
            done.append(_image(self._pending.pop(key)))
            pending = None
        if pending is None:
            if len(self._pending) >= self._image_limit:
                oldest = min(self._pending, key=lambda other: self._pending[other].last_sample)
                done.append(_image(self._pending.pop(oldest)))
            pending = self._pending[key] = _Pending(plan)
        pending.packets[packet.header.packet_index] = packet
        pending.last_sample = packet.end_sample
        if len(pending.packets) == plan.packets:
            done.append(_image(self._pending.pop(key)))
        return done

    def expire(self, before_sample: int) -> list[ReceivedImage]:
        """Return, and forget, the images whose last packet ended before that sample."""
        keys = [key for key, pending in self._pending.items() if pending.last_sample < before_sample]
        return [_image(self._pending.pop(key)) for key in keys]


def _image(pending: _Pending) -> ReceivedImage:
    plan, packets = pending.plan, list(pending.packets.values())
    size = plan.packets * plan.slots
    symbols, noise_var = np.zeros(size, np.complex64), np.full(size, np.inf, np.float32)
    index = plan.stream_index()
    for packet in packets:
        place = index[packet.header.packet_index]
        symbols[place], noise_var[place] = packet.symbols, packet.noise_var
    first, last = plan.side_symbols, plan.side_symbols + plan.jscc_symbols
    signal, noise = (sum(values) / len(packets) for values in ([p.signal for p in packets], [p.noise for p in packets]))
    # A packet's CFO and SFO are as good as its signal-to-noise ratio.
    weights = np.array([max(packet.signal / packet.noise, _LEAST_SNR) for packet in packets])
    header = packets[0].header
    return ReceivedImage(
        symbols=symbols[first:last],
        noise_var=noise_var[first:last],
        side=decode_side(symbols[:first], noise_var[:first], plan.repetition),
        snr_db=float(10 * np.log10(max(signal / noise, _LEAST_SNR))),
        cfo_hz=float(np.average([packet.cfo_hz for packet in packets], weights=weights)),
        sfo_ppm=float(np.average([packet.sfo_ppm for packet in packets], weights=weights)),
        session=header.session,
        image_id=header.image_id,
        packets_received=len(packets),
        packets_cut=sum(packet.missing_symbols > 0 for packet in packets),
        packets_expected=plan.packets,
        start_sample=min(packet.start_sample for packet in packets),
    )
