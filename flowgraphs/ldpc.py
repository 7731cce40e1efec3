"""The LDPC codes that GNU Radio ships (gr-fec), whole codewords at a time.

Its blocks want a flow graph around them: here it is one source, the coder and one sink, run to its end.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from models.errors import ModelError

ITERATIONS = (
    100  # of belief propagation, at most; at 50 one block of 1000 is still unfinished 0.5 dB above the waterfall
)
# gr-fec of GNU Radio 3.10 takes exp(-x / (2 σ²)) of its input for the likelihood ratio, so that this is the σ for log
# ones. It multiplies ratios themselves and divides by each in turn: it fails for certain bits, where the product's
# factors round to 1, and for one that nothing is known of, whose factor is 0.
_SIGMA = 0.5**0.5
_LLR_LIMIT = 9.0  # to 14 nothing is lost; at 20 a punctured code is (measured)
_LEAST_LLR = 1e-3
# Where ratios have left the range of a double all the same, in up to 1 of 200 blocks, every bit comes out as 0. Such
# blocks are decoded again with all ratios taken for a little less certain.
_SCALES = (1.0, 0.7, 0.5)


@dataclass(frozen=True)
class Code:
    """`file` in gr-fec's folder of parity-check matrices; `k` data bits become `n` coded bits."""

    file: str
    k: int
    n: int


TWO_FIFTHS = Code("n_1300_k_0522_gap_30.alist", 522, 1300)
HALF = Code("n_1800_k_0902_gap_28.alist", 902, 1800)


def encode(bits: UInt8[np.ndarray, "blocks k"], code: Code) -> UInt8[np.ndarray, "blocks n"]:
    """Codewords of data bits.

    Raises:
        ModelError: no gr-fec or none of its matrices here.
    """
    from gnuradio import blocks, fec, gr

    coder = fec.encoder(fec.ldpc_encoder_make(matrix(code)), gr.sizeof_char, gr.sizeof_char)
    coded = _run(blocks.vector_source_b(bits.ravel().tolist(), False), coder, blocks.vector_sink_b())
    return np.asarray(coded, np.uint8).reshape(len(bits), code.n)


def decode(llr: Float32[np.ndarray, "blocks n"], code: Code) -> UInt8[np.ndarray, "blocks k"]:
    """Data bits of codewords from log-likelihood ratios, positive for 0, by the sum-product algorithm.

    Whether they are right is not known: what they carry needs a checksum.

    Raises:
        ModelError: no gr-fec or none of its matrices here.
    """
    from gnuradio import blocks, fec, gr

    limited = np.clip(-llr, -_LLR_LIMIT, _LLR_LIMIT)  # gr-fec's are positive for 1
    limited[np.abs(limited) < _LEAST_LLR] = _LEAST_LLR
    result = np.zeros((len(llr), code.k), np.uint8)
    for scale in _SCALES:
        missing = np.flatnonzero(~result.any(axis=1))
        if len(missing):
            coder = fec.decoder(
                fec.ldpc_decoder_make(matrix(code), _SIGMA, ITERATIONS), gr.sizeof_float, gr.sizeof_char
            )
            source = blocks.vector_source_f((scale * limited[missing]).ravel().tolist(), False)
            decoded = _run(source, coder, blocks.vector_sink_b())
            result[missing] = np.asarray(decoded, np.uint8).reshape(len(missing), code.k)
    return result


def matrix(code: Code) -> str:
    """Path of the parity-check matrix.

    Raises:
        ModelError: it is not there, or GNU Radio isn't.
    """
    try:
        from gnuradio import gr
    except ImportError as error:
        raise ModelError(f"digital-real needs GNU Radio's gr-fec: {error} (make setup)") from error
    path = Path(gr.prefix()) / "share" / "gnuradio" / "fec" / "ldpc" / code.file
    if not path.is_file():
        raise ModelError(f"digital-real needs gr-fec's matrix {path}, which is not there: reinstall GNU Radio")
    return str(path)


def _run(source: Any, coder: Any, sink: Any) -> Any:
    from gnuradio import gr

    graph = gr.top_block()
    graph.connect(source, coder, sink)
    graph.run()
    return sink.data()
