"""The code against vectors worked by hand, its free distance and the union bound."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erfc

from sdr import fec

# Bit weights of all paths at Hamming distance d (Conan, IEEE Trans. Commun. 32, 1984, K=7, 133/171).
SPECTRUM = {10: 36, 12: 211, 14: 1404, 16: 11633, 18: 77433, 20: 502690}


def decode(llr: np.ndarray) -> np.ndarray:
    return np.asarray(fec.decode_blocks(llr[None])[0])


def test_impulse_response_is_the_two_generators() -> None:
    coded = fec.encode(np.array([1], np.uint8))
    assert "".join(map(str, coded[0::2])) == "1111001"  # 171 octal
    assert "".join(map(str, coded[1::2])) == "1011011"  # 133 octal


def test_known_codeword() -> None:
    # By hand for 1 0 1 1: each generator XORed with itself at shifts 0, 2 and 3.
    coded = fec.encode(np.array([1, 0, 1, 1], np.uint8))
    assert "".join(map(str, coded[0::2])) == "1101000011"
    assert "".join(map(str, coded[1::2])) == "1000110101"


@given(st.lists(st.integers(0, 1), min_size=1, max_size=900))
def test_noiseless_round_trip(bits: list[int]) -> None:
    sent = np.array(bits, np.uint8)
    llr = 1.0 - 2.0 * fec.encode(sent)
    assert np.array_equal(decode(llr), sent)


@given(st.integers(0, 2**32), st.sets(st.integers(0, 319), min_size=4, max_size=4))
def test_any_four_errors_are_corrected(seed: int, wrong: set[int]) -> None:
    sent = np.random.default_rng(seed).integers(0, 2, 154).astype(np.uint8)
    llr = 1.0 - 2.0 * fec.encode(sent)
    llr[list(wrong)] *= -1
    assert np.array_equal(decode(llr), sent)


def test_what_is_a_codeword_already_needs_no_search() -> None:
    """However weak its bits are; beside it, in the same batch, one that is none."""
    rng = np.random.default_rng(4)
    sent = rng.integers(0, 2, (2, 154)).astype(np.uint8)
    llr = (1.0 - 2.0 * fec.encode(sent)) * rng.uniform(1e-3, 1.0, (2, 320))
    llr[1, [3, 100, 200]] *= -1
    assert np.array_equal(fec.decode_blocks(llr), sent)


def test_bit_errors_follow_the_union_bound() -> None:
    rng = np.random.default_rng(5)
    ebn0 = 10 ** (3.0 / 10)
    bound = sum(weight * 0.5 * erfc(np.sqrt(d * 0.5 * ebn0)) for d, weight in SPECTRUM.items())
    sent = rng.integers(0, 2, (2000, 150)).astype(np.uint8)
    received = 1.0 - 2.0 * fec.encode(sent) + rng.standard_normal((2000, 2 * (150 + 6))) / np.sqrt(ebn0)
    rate = np.mean(fec.decode_blocks(4 * received) != sent)
    assert bound / 4 < rate < 1.2 * bound


def test_erasures_and_nonsense_are_taken_as_ignorance() -> None:
    rng = np.random.default_rng(7)
    sent = rng.integers(0, 2, 800).astype(np.uint8)
    llr = 1.0 - 2.0 * fec.encode(sent)
    llr[rng.permutation(llr.size)[: llr.size // 4]] = 0
    llr[100] = np.nan
    llr[200] *= np.inf
    assert np.array_equal(decode(llr), sent)


def test_gnu_radio_encodes_alike() -> None:
    from gnuradio import blocks, gr
    from gnuradio import fec as fec_gr

    bits = np.random.default_rng(8).integers(0, 2, 160).astype(np.uint8)
    reversed_polynomials = [int(f"{p:07b}"[::-1], 2) for p in fec.POLYNOMIALS]
    encoder = fec_gr.cc_encoder_make(bits.size, 7, 2, reversed_polynomials, 0, fec_gr.CC_TERMINATED)
    graph = gr.top_block()
    source, sink = blocks.vector_source_b(bits.tolist()), blocks.vector_sink_b()
    coder = fec_gr.encoder(encoder, gr.sizeof_char, gr.sizeof_char)
    graph.connect(source, coder, sink)
    graph.run()
    assert np.array_equal(np.array(sink.data(), np.uint8), fec.encode(bits))
