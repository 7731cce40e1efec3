"""The steps of a calibration, one module each, in the order in which `lrisc calibrate all` runs them."""

from calibration.steps import clip, frequency, iq, noise_floor, snr_bias, tx_gain
from calibration.steps.step import Peer, Step

__all__ = ["STEPS", "Peer", "Step"]

STEPS: dict[str, Step] = {
    step.name: step for step in (noise_floor.STEP, frequency.STEP, clip.STEP, tx_gain.STEP, snr_bias.STEP, iq.STEP)
}
