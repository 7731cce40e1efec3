"""What a worker makes of several jobs at once."""

import numpy as np

from models.protocol import Failure, Job, Picture
from models.worker import Painter, answers
from tests.models.small import picture, small_codec


def test_jobs_of_all_sizes_are_answered_as_if_alone_and_a_bad_one_stops_no_other() -> None:
    codec = small_codec()
    assert isinstance(codec, Painter)
    jobs = []
    for number, (height, width, steps) in enumerate([(48, 64, 1), (48, 64, 1), (40, 64, 1), (48, 64, 2), (64, 48, 0)]):
        encoded = codec.encode(
            picture(height, width, number), cbr=1 / 8, snr_hint_db=10.0, mask=None, side_symbols=lambda count: 8 * count
        )
        noise_var = np.full(len(encoded.symbols), 0.1, np.float32)
        jobs.append(Job(number, steps, number, 10.0, encoded.symbols, noise_var, encoded.side))
    jobs.append(Job(9, 1, 0, 10.0, np.ones(4, np.complex64), np.ones(4, np.float32), b"damaged"))
    found = {answer.number: answer for answer in answers(codec, jobs)}
    assert len(found) == len(jobs)
    assert isinstance(found[9], Failure)
    for job in jobs[:-1]:
        answer = found[job.number]
        assert isinstance(answer, Picture)
        alone = codec.decode(job.symbols, job.noise_var, 10.0, job.side, steps=job.steps, seed=job.seed)
        assert np.abs(answer.image.astype(int) - alone).max() <= 1
