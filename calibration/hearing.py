"""What a receiver hears from a device, as numbers: images, packets, rejected candidates, what is missing and why."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex64

from sdr.candidate import Candidate, Reason
from sdr.playback import Playback
from sdr.receive import ReceivedImage, Receiver
from sdr.waveform import Waveform

_LOG_LIMIT = 10_000
"""Packets, and rejected candidates, that are remembered: the last ones. The counts hold all."""


@dataclass(frozen=True)
class HeardPacket:
    """A packet whose header was right; samples are counted at the waveform's rate."""

    start_sample: int
    end_sample: int
    session: int
    image_id: int
    packet_index: int
    packet_count: int
    snr_db: float
    level_dbfs: float
    """Power within the band."""
    cfo_hz: float
    sfo_ppm: float
    cut_share: float
    """Of the payload, because samples were missing."""


class Hearing:
    """Listens to a device and remembers what it hears. Everything is known once `images` has come to its end."""

    def __init__(
        self,
        playback: Playback,
        waveform: Waveform,
        *,
        on_packet: Callable[[Candidate], None] | None = None,
        on_samples: Callable[[Complex64[np.ndarray, "n"]], None] | None = None,
    ) -> None:
        self.playback = playback
        self.waveform = waveform
        self.samples = 0
        self.packets: deque[HeardPacket] = deque(maxlen=_LOG_LIMIT)
        self.rejected: deque[Candidate] = deque(maxlen=_LOG_LIMIT)
        self.packet_count = 0
        self.rejected_count: Counter[Reason] = Counter()
        self._on_packet = on_packet
        self._on_samples = on_samples

    def images(self) -> Iterator[ReceivedImage]:
        """Every image in the stream, as soon as it is complete or timed out."""
        for found in self.steps():
            yield from found

    def steps(self) -> Iterator[list[ReceivedImage]]:
        """The same chunk by chunk of the stream, also where there is no image, for those who do more than listen."""
        receiver = Receiver(self.waveform, observer=self._note)
        for chunk in self.playback:
            self.samples += chunk.size
            if self._on_samples is not None:
                self._on_samples(chunk)
            yield receiver.push(chunk)
        yield receiver.flush()

    def _note(self, candidate: Candidate) -> None:
        if candidate.reason is not None:
            self.rejected.append(candidate)
            self.rejected_count[candidate.reason] += 1
            return
        self.packets.append(heard_packet(candidate, self.waveform))
        self.packet_count += 1
        if self._on_packet is not None:
            self._on_packet(candidate)

    def describe(self, found: ReceivedImage) -> dict[str, Any]:
        """Numbers of an image that has just come; `incomplete` says in words what of it is missing, and why."""
        described: dict[str, Any] = {
            "snr_db_estimated": found.snr_db,
            "cfo_hz_estimated": found.cfo_hz,
            "sfo_ppm_estimated": found.sfo_ppm,
            "packets_received": found.packets_received,
            "packets_expected": found.packets_expected,
            "erased_share": float(np.mean(np.isinf(found.noise_var))) if found.noise_var.size else 0.0,
            "session": found.session,
            "image_id": found.image_id,
            "start_sample": self.playback.device_sample(found.start_sample),
            "start_s": found.start_sample / self.waveform.sample_rate_hz,
        }
        key = (found.session, found.image_id, found.packets_expected)
        packets = [
            packet
            for packet in self.packets
            if (packet.session, packet.image_id, packet.packet_count) == key
            and packet.start_sample >= found.start_sample
        ]
        # The last may be another image's, whose coming ended this one.
        if reason := why_incomplete(packets[: found.packets_received], self.samples):
            described["incomplete"] = reason
        return described

    def faulty(self) -> dict[str, int]:
        """How many preambles led to no packet, by reason; what merely looked like a short sequence does not count."""
        return {why.value: n for why, n in self.rejected_count.items() if why is not Reason.UNCONFIRMED}

    def report(self) -> dict[str, Any]:
        """Condition of the recording or radio, packets and rejected candidates, for JSON."""
        return {
            self.playback.device.kind: self.playback.describe(),
            "packets_received": self.packet_count,
            "packets_rejected": sum(self.faulty().values()),
            "rejected": {reason.value: count for reason, count in self.rejected_count.items()},
            "notes": self.playback.notes(),
        }

    def packet_rows(self) -> list[dict[str, Any]]:
        """One row per packet, for JSON; samples of the device."""
        return [
            asdict(packet)
            | {
                "start_sample": self.playback.device_sample(packet.start_sample),
                "end_sample": self.playback.device_sample(packet.end_sample),
                "start_s": packet.start_sample / self.waveform.sample_rate_hz,
            }
            for packet in self.packets
        ]

    def rejected_rows(self) -> list[dict[str, Any]]:
        """One row per rejected candidate, for JSON; samples of the device."""
        return [
            {
                "start_sample": self.playback.device_sample(candidate.start_sample),
                "start_s": candidate.start_sample / self.waveform.sample_rate_hz,
                "cfo_hz": candidate.cfo_hz,
                "reason": candidate.reason,
            }
            for candidate in self.rejected
        ]


def heard_packet(candidate: Candidate, waveform: Waveform) -> HeardPacket:
    """Numbers of a candidate that was a packet."""
    packet = candidate.packet
    assert packet is not None
    signal = max(packet.signal, float(np.finfo(np.float64).tiny))
    contents = packet.header
    return HeardPacket(
        start_sample=packet.start_sample,
        end_sample=packet.end_sample,
        session=contents.session,
        image_id=contents.image_id,
        packet_index=contents.packet_index,
        packet_count=contents.packet_count,
        snr_db=float(10 * np.log10(signal / packet.noise)),
        level_dbfs=float(10 * np.log10(signal) + 20 * np.log10(waveform.tx_rms)),
        cfo_hz=packet.cfo_hz,
        sfo_ppm=packet.sfo_ppm,
        cut_share=packet.missing_symbols * waveform.data_carriers / packet.symbols.size,
    )


def why_incomplete(packets: Sequence[HeardPacket], samples: int) -> str | None:
    """What of an image's packets is missing, and why, from where they would lie if sent back to back.

    `packets` are those that came, of one image; `samples` is how many samples were heard. None: nothing is missing.
    """
    if not packets:
        return None
    first = min(packets, key=lambda packet: packet.start_sample)
    length = first.end_sample - first.start_sample
    missing = sorted(set(range(first.packet_count)) - {packet.packet_index for packet in packets})
    groups: dict[str, list[int]] = {}
    for index in missing:
        start = first.start_sample + (index - first.packet_index) * length
        where = "before the recording begins" if start < 0 else "after it ends" if start + length > samples else "lost"
        groups.setdefault(where, []).append(index)
    parts = [f"{_listed(indices)} {where}" for where, indices in groups.items()]
    cut = [packet.packet_index for packet in packets if packet.cut_share > 0]
    if cut:
        parts.append(f"{_listed(sorted(set(cut)))} not whole")
    return "; ".join(parts) or None


def _listed(indices: Sequence[int]) -> str:
    """[1] is 'packet 1', [0, 1, 2, 5] is 'packets 0…2, 5'."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    names = [f"{run[0]}…{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"packet{'s' if len(indices) > 1 else ''} {', '.join(names)}"
