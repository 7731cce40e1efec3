"""gr-fec's LDPC codes: its matrices against its encoder, its decoder against bounds."""

import math
from pathlib import Path

import numpy as np
import pytest

from flowgraphs import ldpc
from flowgraphs.ldpc import HALF, TWO_FIFTHS, Code
from models.errors import ModelError

CODES = {"half": HALF, "two fifths": TWO_FIFTHS}


@pytest.fixture(params=CODES)
def code(request: pytest.FixtureRequest) -> Code:
    return CODES[request.param]


def checks(code: Code) -> np.ndarray:
    """The parity-check matrix from its file (MacKay's alist format): dimensions, weights, ones of each column."""
    lines = Path(ldpc.matrix(code)).read_text().splitlines()
    columns, rows = map(int, lines[0].split())
    result = np.zeros((rows, columns), np.uint8)
    for column, line in enumerate(lines[4 : 4 + columns]):
        result[[int(row) - 1 for row in line.split() if row != "0"], column] = 1
    return result


def words(code: Code, count: int) -> tuple[np.ndarray, np.ndarray]:
    bits = np.random.default_rng(0).integers(0, 2, (count, code.k)).astype(np.uint8)
    return bits, ldpc.encode(bits, code)


def soft(coded: np.ndarray, ebn0_db: float, code: Code) -> np.ndarray:
    """Log-likelihood ratios after BPSK at an Eb/N0: 2 y / σ²."""
    variance = 1 / (2 * code.k / code.n * 10 ** (ebn0_db / 10))
    noise = np.random.default_rng(1).standard_normal(coded.shape) * math.sqrt(variance)
    return np.asarray(2 * (1 - 2.0 * coded + noise) / variance, np.float32)


def test_codewords_satisfy_every_check(code: Code) -> None:
    _, coded = words(code, 8)
    matrix = checks(code)
    assert matrix.shape[1] == code.n and coded.shape == (8, code.n)
    assert not (coded @ matrix.T % 2).any()


def test_the_code_is_linear_and_one_to_one(code: Code) -> None:
    bits, coded = words(code, 3)
    together = ldpc.encode((bits[:1] ^ bits[1:2]), code)
    assert np.array_equal(together[0], coded[0] ^ coded[1])
    assert np.array_equal(ldpc.decode(20 * (1 - 2.0 * coded).astype(np.float32), code), bits)


def test_the_waterfall_is_where_it_belongs(code: Code) -> None:
    """Regular codes of column weight 3 have their thresholds near 1.1 dB (Richardson and Urbanke 2001); 1800 bits take
    about 1 dB more. Without a code 4 % of the bits would be wrong at 2 dB."""
    bits, coded = words(code, 60)
    wrong = {ebn0: (ldpc.decode(soft(coded, ebn0, code), code) != bits).any(axis=1).mean() for ebn0 in (0.3, 2.0)}
    assert wrong[0.3] > 0.8 and wrong[2.0] < 0.15


@pytest.mark.parametrize("ebn0_db", [6.0, 12.0, 30.0])
def test_good_channels_do_no_harm(code: Code, ebn0_db: float) -> None:
    """gr-fec's own arithmetic leaves the range of a double there."""
    bits, coded = words(code, 60)
    ratios = soft(coded, ebn0_db, code)
    ratios[:, np.random.default_rng(2).permutation(code.n)[: code.n // 5]] = 0
    assert np.array_equal(ldpc.decode(ratios, code), bits)


def test_ratios_count_and_not_only_signs() -> None:
    """A fifth of the bits wrong, but known to be doubtful."""
    bits, coded = words(HALF, 10)
    ratios = 8 * (1 - 2.0 * coded).astype(np.float32)
    ratios[:, ::5] *= -0.02
    assert np.array_equal(ldpc.decode(ratios, HALF), bits)
    ratios[:, ::5] *= 50
    assert (ldpc.decode(ratios, HALF) != bits).any(axis=1).all()


def test_a_missing_matrix_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"none\.alist.*not there") as caught:
        ldpc.matrix(Code("none.alist", 1, 2))
    assert "\n" not in str(caught.value)
