"""What the receiver tells an observer of each place where its detector fired."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Complex64

from sdr.assemble import Packet
from sdr.estimate import Estimate


class Reason(StrEnum):
    """Why a candidate is no packet."""

    UNCONFIRMED = "no long training symbols after it"
    OVERLAP = "on top of another packet"
    HEADER = "header fails its CRC"
    FOREIGN = "header of another version"
    CONTRADICTION = "header contradicts itself"
    CUT = "cut off before its payload"


@dataclass(frozen=True, eq=False)
class Candidate:
    """One of them. A packet comes with all that its demodulation found, anything else with the reason."""

    start_sample: int
    """Estimated first sample of the packet in the stream; good to about a period of the short sequence at first, to a
    sample with long training symbols."""
    cfo_hz: float | None
    """None where there were no long training symbols."""
    reason: Reason | None = None
    packet: Packet | None = None
    state: Estimate | None = None
    spectrum: Complex64[np.ndarray, "rows used"] | None = None
    """Subcarriers of the long, header and payload symbols, without the CFO that the preamble showed."""
