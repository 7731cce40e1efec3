"""What a campaign measures, as data: one YAML file, whose lists are multiplied with one another."""

import functools
import glob
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from calibration.errors import CampaignError
from models.codec import CBR_RANGE, parse_cbr
from models.errors import ModelError
from models.weights import Card, hash_file, split_adapter, verify
from sdr.calibrated import CalibrationFile, check_calibration, load_calibration
from sdr.channel import SNR_RANGE_DB, Channel, parse_channel
from sdr.safety import TransmitGuard
from sdr.settings import read_settings
from sdr.station import Station, load_station
from sdr.waveform import DEFAULT

DIRECT, DIGITAL, DIGITAL_REAL = "direct", "digital", "digital-real"
"""Models without weights of their own: `DIRECT` is lrisc with 0 steps."""
RADIO = "radio"
"""What results call the channel between two radios."""
_LRISC = "lrisc"
_SHIPPED_PICTURES = "skimage.data."
_MOST_STEPS = 1000


@dataclass(frozen=True)
class Plan:
    """A campaign as it stands in its file: images × snr_db × cbr × channel × roi × repeats × models × steps.

    Paths are relative to the folder in which the command runs. Raises CampaignError for empty lists, for values given
    twice and for numbers out of range.
    """

    name: str
    images: tuple[str, ...]
    """Files, patterns like photos/*.png, or skimage.data.NAME for a picture that scikit-image ships."""
    snr_db: tuple[float, ...]
    """Es/N0 per data subcarrier."""
    cbr: tuple[float | str, ...]
    models: tuple[str, ...]
    """Names, folders or hub ids of weights, adapters FILE.py:FUNCTION, and direct, digital, digital-real. {snr_db} and
    {cbr} in a name stand for 10 and 12 at 10 dB and CBR 1/12: one network for each cell; cells without one are left
    out."""
    channel: tuple[str, ...] = ("awgn",)
    """Names of `sdr.fading.CHANNELS` or YAML files of conditions, whose snr_db the plan's replaces."""
    roi: tuple[str | None, ...] = (None,)
    """auto, x,y,w,h, a mask picture, or null; {stem} in a mask's name stands for the picture's without its suffix."""
    steps: tuple[int | None, ...] = (None,)
    """Denoising steps; null is each model's own default. Models without diffusion are measured once."""
    repeats: int = 1
    """Channel realisations of each point."""
    seed: int = 0
    hint_db: float | None = None
    """What every sender takes the SNR for; None is the true one."""
    station: tuple[str, ...] | None = None
    """Station files of the sender and of the receiver: over two radios instead of the software channel."""
    keep_recordings: bool = False
    """Keep what the receiver heard as SigMF recordings, 8 bytes a sample."""

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name)
            if isinstance(values, tuple):
                if not values:
                    raise CampaignError(f"{field.name} is an empty list; give at least one value")
                if len(set(values)) < len(values):
                    raise CampaignError(f"{field.name} has a value twice: {', '.join(map(str, values))}")
        low, high = SNR_RANGE_DB
        hints = () if self.hint_db is None else (self.hint_db,)
        for key, values in (("snr_db", self.snr_db), ("hint_db", hints)):
            for value in values:
                if not low <= value <= high:
                    raise CampaignError(f"{key} {value:g} is out of range: choose {low:g} to {high:g} dB")
        for ratio in self.ratios:
            if not CBR_RANGE[0] <= ratio <= CBR_RANGE[1]:
                raise CampaignError(f"cbr {ratio:g} is out of range: choose 1/128 to 1/5")
        for steps in self.steps:
            if steps is not None and not 0 <= steps <= _MOST_STEPS:
                raise CampaignError(f"steps {steps} is out of range: choose 0 to {_MOST_STEPS}")
        if self.repeats < 1 or self.seed < 0:
            raise CampaignError("repeats must be at least 1 and seed at least 0")
        if self.station is not None and len(self.station) != 2:
            raise CampaignError(
                "station must be two files, the sender's and the receiver's: [SENDER.yaml, RECEIVER.yaml]"
            )
        if self.station is not None and self.channel != Plan.channel:
            raise CampaignError(
                "channel is what a software channel does, and with stations the radios are it: leave it out"
            )
        if not self.name or not all(letter.isprintable() for letter in self.name):
            raise CampaignError("name must be a word or two")

    @property
    def ratios(self) -> tuple[float, ...]:
        """`cbr` as numbers. Raises ModelError for what is none."""
        return tuple(parse_cbr(str(ratio)) for ratio in self.cbr)


@dataclass(frozen=True)
class Picture:
    """One picture of a campaign; results name it by its file's name, so that they don't depend on the folder."""

    name: str
    path: str


@dataclass(frozen=True)
class Weights:
    """What a model's name means in one cell: what `load_codec` takes, its hash, and the steps to decode with."""

    model: str
    digest: str
    encoder: str
    """Hash of what the sender needs: decoders of one encoder can read one another's recordings."""
    steps: tuple[tuple[int | None, int], ...]
    """Each number of steps as in the plan, and what it comes to here: a model's own depends on the cell."""


@dataclass(frozen=True)
class Stations:
    """The two radios of a campaign, and what is known of them as a pair."""

    sender: Station
    receiver: Station
    calibration: CalibrationFile


@dataclass(frozen=True)
class Design:
    """A plan with everything that it names found: what is measured, down to the hashes of its inputs."""

    plan: Plan
    pictures: tuple[Picture, ...]
    channels: Mapping[str, Channel]
    weights: Mapping[tuple[str, float, float], Weights]
    """By model's name, SNR and CBR; cells that a model doesn't have are absent."""
    stations: Stations | None = None
    """None: over the software channel."""

    def document(self) -> dict[str, Any]:
        """All that two runs of one campaign must have in common, for JSON."""
        models: dict[str, dict[str, dict[str, str]]] = {}
        for (name, _, _), found in self.weights.items():
            models.setdefault(name, {})[found.model] = {"weights": found.digest, "encoder": found.encoder}
        regions = {mask for picture in self.pictures for roi in self.plan.roi if (mask := mask_file(roi, picture))}
        plan = {**asdict(self.plan), "images": [picture.name for picture in self.pictures]}
        if self.plan.hint_db is None:
            del plan["hint_db"]  # runs that were begun before plans had it can be gone on with
        return {
            "plan": plan,
            "pictures_sha256": {picture.name: _digest(picture.path) for picture in self.pictures},
            "masks_sha256": {Path(mask).name: _digest(mask) for mask in sorted(regions)},
            "models": models,
            "channels": {name: asdict(channel) for name, channel in self.channels.items()},
            "waveform": asdict(DEFAULT),
            **({} if self.stations is None else {"stations": asdict(self.stations)}),
        }


def load_plan(path: Path) -> Plan:
    """Read a plan. Raises SdrError, CampaignError in one line that names the file and the key."""
    values = read_settings(path, Plan, "plan")
    needed = [field.name for field in fields(Plan) if field.default is MISSING]
    if missing := [key for key in needed if key not in values]:
        raise CampaignError(f"plan {path} lacks {', '.join(missing)}")
    try:
        return Plan(**values)
    except (CampaignError, ModelError) as error:
        raise CampaignError(f"plan {path}: {error}") from error


def resolve(plan: Plan) -> Design:
    """Find everything that a plan names, before anything starts.

    Raises CampaignError, ModelError, SdrError: pictures, masks, weights or channel files that are not there, a pattern
    that matches nothing, two pictures of one name, stations that cannot send and receive, or whose calibration is not
    theirs.
    """
    pictures = _find_pictures(plan)
    for roi in plan.roi:
        for picture in pictures:
            if (mask := mask_file(roi, picture)) is not None and not Path(mask).is_file():
                raise CampaignError(f"roi: the mask picture {mask!r} does not exist (for {picture.name})")
    if plan.station is not None:
        return Design(plan, pictures, {RADIO: Channel()}, _find_weights(plan), _find_stations(*plan.station))
    channels: dict[str, Channel] = {}
    for text in plan.channel:
        channels[channel_name(text)] = parse_channel(text)
    if len(channels) < len(plan.channel):
        raise CampaignError("channel: two files of one name could not be told apart in the results")
    return Design(plan, pictures, channels, _find_weights(plan))


def _find_stations(sending: str, receiving: str) -> Stations:
    sender, receiver = load_station(Path(sending)), load_station(Path(receiving))
    TransmitGuard(sender, DEFAULT)
    if receiver.receive is None:
        raise CampaignError(f"station: '{receiver.name}' does not receive: its file has no 'receive' section")
    if sender.calibration.file is None:
        raise CampaignError(
            f"station: '{sender.name}' has no calibration to reach an SNR with: run lrisc calibrate tx-gain --station "
            f"{receiving} --peer {sending}, and name its file under calibration: {{file: …}}"
        )
    calibration = load_calibration(Path(sender.calibration.file))
    if calibration.tx_gain is None or calibration.transmit_element is None:
        raise CampaignError(f"station: {sender.calibration.file} has no tx_gain: run lrisc calibrate tx-gain")
    for station in (sender, receiver):
        check_calibration(
            calibration,
            frequency_hz=station.frequency_hz,
            rate_hz=station.rate_hz or DEFAULT.sample_rate_hz,
            serial=station.serial,
            role="sender" if station is sender else "receiver",
        )
    return Stations(sender, receiver, calibration)


def channel_name(text: str) -> str:
    """What results call a channel: a name, or a file's without folder and suffix."""
    return Path(text).stem if Path(text).suffix else text


def model_name(text: str) -> str:
    """What results call a model: its name, or its folder's or adapter's, without what stands for the cell."""
    shown = text.partition("{")[0].rstrip("-_/") if "{" in text else text.partition(".py:")[0]
    folder = Path(shown)
    name = folder.parent.name if folder.name == "model" else folder.name
    return name or shown


def mask_file(roi: str | None, picture: Picture) -> str | None:
    """The mask picture that `roi` names for `picture`, if it names one."""
    if roi is None or roi == "auto" or "," in roi:
        return None
    return roi.replace("{stem}", Path(picture.name).stem)


def _find_pictures(plan: Plan) -> tuple[Picture, ...]:
    pictures: list[Picture] = []
    for entry in plan.images:
        if entry.startswith(_SHIPPED_PICTURES):
            pictures.append(_shipped(entry))
            continue
        found = sorted(glob.glob(entry, recursive=True)) if glob.has_magic(entry) else [entry]
        if not found:
            raise CampaignError(f"images: no file matches {entry!r}")
        for path in found:
            if not Path(path).is_file():
                problem = f"is a folder: write {entry}/*" if Path(path).is_dir() else "does not exist"
                raise CampaignError(f"images: {path!r} {problem}")
            pictures.append(Picture(Path(path).name, path))
    names = [picture.name for picture in pictures]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CampaignError(f"images: two pictures are called {twice[0]!r}; results could not be told apart")
    return tuple(pictures)


def _shipped(entry: str) -> Picture:
    import skimage

    name = entry.removeprefix(_SHIPPED_PICTURES)
    folder = Path(skimage.__file__).parent / "data"
    found = sorted(folder.glob(f"{glob.escape(name)}.*"))
    if not found:
        raise CampaignError(f"images: scikit-image ships no picture {name!r}; astronaut, coffee and chelsea are there")
    return Picture(found[0].name, str(found[0]))


def _find_weights(plan: Plan) -> dict[tuple[str, float, float], Weights]:
    cells = [(snr_db, ratio) for snr_db in plan.snr_db for ratio in plan.ratios]
    names = [model_name(text) for text in plan.models]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CampaignError(f"models: two are called {twice[0]!r}; rename a folder, or results could not be told apart")
    found: dict[tuple[str, float, float], Weights] = {}
    known: dict[str, Card] = {}
    for text, name in zip(plan.models, names, strict=True):
        missing: ModelError | None = None
        for snr_db, ratio in cells:
            if text in (DIGITAL, DIGITAL_REAL):
                digest = text if text == DIGITAL else _link_digest()
                found[name, snr_db, ratio] = Weights(text, digest, digest, ((None, 0),))
                continue
            if split_adapter(text) is not None:
                digest = _adapter_digest(text)
                found[name, snr_db, ratio] = Weights(text, digest, digest, tuple((n, n or 0) for n in plan.steps))
                continue
            model = _LRISC if text == DIRECT else _of_cell(text, snr_db, ratio)
            try:
                card = known[model] = known.get(model) or verify(model)
            except ModelError as error:
                if "{" not in text:
                    raise
                missing = error
                continue
            found[name, snr_db, ratio] = _weights(plan, text, model, card, snr_db, ratio)
        if missing and not any(key[0] == name for key in found):
            raise CampaignError(f"models: {text!r} fits no network: {missing}")
    return found


def _of_cell(text: str, snr_db: float, ratio: float) -> str:
    return text.replace("{snr_db}", f"{snr_db:g}").replace("{cbr}", f"{1 / ratio:.6g}")


def _encoder(card: Card) -> str:
    """The hash of all weights but those of the denoiser, which the sender has no use for."""
    sender = {name: digest for name, digest in card.sha256.items() if not name.startswith("denoiser/")}
    return Card(card.name, 0, sender).digest


def _weights(plan: Plan, text: str, model: str, card: Card, snr_db: float, ratio: float) -> Weights:
    steps: tuple[tuple[int | None, int], ...] = ((None, 0),)
    if text != DIRECT and any(name.startswith("denoiser/") for name in card.sha256):
        own = card.choice(snr_db, ratio).steps
        steps = tuple((asked, own if asked is None else asked) for asked in plan.steps)
    return Weights(model, card.digest, _encoder(card), steps)


@functools.cache
def _adapter_digest(text: str) -> str:
    from models.registry import load_codec  # loads torch

    return load_codec(text).digest


@functools.cache
def _link_digest() -> str:
    """Of the modes and codes of digital-real; fails where there is no GNU Radio."""
    from flowgraphs.digital import DigitalLink  # its picture formats take a while to load

    return DigitalLink().digest


def _digest(path: str) -> str | None:
    """SHA-256 of a file; None for one that cannot be read, which is found out and noted when its turn comes."""
    try:
        return hash_file(Path(path))
    except OSError:
        return None
