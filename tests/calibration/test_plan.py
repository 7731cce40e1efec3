"""Plans: what they may say, what is refused by name, and that a point's seed is its own."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.errors import CampaignError
from calibration.ledger import difference
from calibration.plan import Plan, load_plan, resolve
from calibration.points import derive_seed, passages, remaining
from models.errors import ModelError
from models.image import save_image
from sdr.errors import SdrError
from tests.calibration.tiny import tiny_design, tiny_plan
from tests.models.small import picture

CONFIGS = Path(__file__).parents[2] / "configs"
TEXT = "name: a\nimages: x.png\nsnr_db: 10\ncbr: 1/12\nmodels: lrisc\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text)
    return path


def test_the_keys_are_the_documented_ones() -> None:
    keys = "name, images, snr_db, cbr, models, channel, roi, steps, repeats, seed, hint_db, station, keep_recordings"
    assert ", ".join(field.name for field in fields(Plan)) == keys


def test_single_values_stand_for_lists_of_one(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, TEXT + "steps: [null, 4]\nroi: [null, auto]\n"))
    assert plan.images == ("x.png",) and plan.snr_db == (10.0,) and plan.ratios == (1 / 12,)
    assert plan.steps == (None, 4) and plan.roi == (None, "auto")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("modles: x", "unknown key modles"),
        ("snr_db: loud", "snr_db must be float"),
        ("snr_db: [99]", "snr_db 99 is out of range"),
        ("hint_db: 99", "hint_db 99 is out of range"),
        ("snr_db: []", "snr_db is an empty list"),
        ("snr_db: [1, 1.0]", "snr_db has a value twice"),
        ("cbr: 1/2", "cbr 0.5 is out of range"),
        ("cbr: half", "'half' is not a ratio"),
        ("steps: -1", "steps -1 is out of range"),
        ("repeats: 0", "repeats must be at least 1"),
        ("repeats: 1.5", "repeats must be int"),
        ("keep_recordings: 1", "keep_recordings must be bool"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(line: str, words: str, tmp_path: Path) -> None:
    text = "".join(kept + "\n" for kept in TEXT.splitlines() if kept.partition(":")[0] != line.partition(":")[0])
    with pytest.raises((CampaignError, SdrError)) as refused:
        load_plan(write(tmp_path, text + line + "\n"))
    assert words in str(refused.value) and "plan.yaml" in str(refused.value) and "\n" not in str(refused.value)


def test_missing_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match=r"lacks images, snr_db, cbr, models"):
        load_plan(write(tmp_path, "name: a\n"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": ("none/*.png",)}, "no file matches 'none/\\*.png'"),
        ({"images": ("none.png",)}, "'none.png' does not exist"),
        ({"images": ("skimage.data.nobody",)}, "ships no picture 'nobody'"),
        ({"channel": ("dialup",)}, "dialup"),
        ({"models": ("nothing",)}, "nothing"),
        ({"models": ("nothing-{snr_db}-{cbr}",)}, "fits no network"),
        ({"roi": ("masks/{stem}.png",)}, "mask picture 'masks/0.png' does not exist"),
        ({"station": ("radio.yaml",)}, "two files"),
        ({"station": ("a.yaml", "b.yaml"), "channel": ("tdl-a",)}, "channel"),
        ({"station": ("a.yaml", "b.yaml")}, r"a\.yaml"),
    ],
)
def test_what_is_not_there_is_found_out_first(changes: dict[str, object], words: str, tiny_folder: Path) -> None:
    with pytest.raises((CampaignError, ModelError, SdrError), match=words):
        tiny_design(tiny_folder, **changes)


def test_pictures_of_one_name_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    save_image(tmp_path / "0.png", picture(64, 96))
    with pytest.raises(CampaignError, match=r"two pictures are called '0\.png'"):
        tiny_design(tiny_folder, images=(str(tiny_folder / "*.png"), str(tmp_path / "0.png")))


def test_points_are_the_product_and_models_without_diffusion_count_once(tiny_folder: Path) -> None:
    design = tiny_design(tiny_folder, steps=(None, 0, 1), repeats=2, channel=("awgn", "tdl-a"), roi=(None, "auto"))
    work = list(passages(design))
    points = [point for passage in work for point in passage.points]
    assert [point.index for point in points] == list(range(len(points)))
    cells = 3 * 2 * 2 * 2 * 2  # pictures, SNRs, channels, regions, repeats
    assert len(points) == cells * (3 + 1)  # the other has no diffusion
    assert [(point.steps_asked, point.steps) for point in work[0].points] == [(None, 1), (0, 0), (1, 1)]
    assert len(work) == cells * 2  # steps share what was received
    assert list(remaining(iter(work), {point.index for point in points[4:]})) == work[:2]


def test_one_network_per_cell_where_there_is_one(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "net-0-12").symlink_to(tiny_folder / "other")
    design = tiny_design(tiny_folder, models=(str(tmp_path / "net-{snr_db}-{cbr}"),), cbr=("1/12", "1/24"))
    work = list(passages(design))
    assert {(passage.snr_db, passage.cbr) for passage in work} == {(0.0, 1 / 12)}
    assert {point.model for passage in work for point in passage.points} == {"net"}


def test_all_models_of_a_point_share_one_channel_and_no_two_points_do(tiny_folder: Path) -> None:
    design = tiny_design(tiny_folder, repeats=2, roi=(None, "auto"))
    seeds: dict[int, set[tuple[object, ...]]] = {}
    for passage in passages(design):
        place = (passage.picture.name, passage.snr_db, passage.cbr, passage.channel, passage.repeat)
        seeds.setdefault(passage.seed, set()).add(place)
    assert len(seeds) == 3 * 2 * 2 and all(len(places) == 1 for places in seeds.values())


@given(st.integers(0, 2**40), st.text(max_size=20), st.floats(-10, 40), st.integers(0, 1000))
def test_a_seed_depends_on_nothing_but_its_coordinates(seed: int, name: str, snr_db: float, repeat: int) -> None:
    first = derive_seed(seed, name, snr_db, 1 / 12, "awgn", repeat)
    assert first == derive_seed(seed, name, snr_db, 1 / 12, "awgn", repeat) and 0 <= first < 2**32
    others = [(seed + 1, name, snr_db, repeat), (seed, name + "x", snr_db, repeat), (seed, name, snr_db, repeat + 1)]
    assert first not in [derive_seed(s, n, v, 1 / 12, "awgn", r) for s, n, v, r in others]


def test_the_seed_of_a_coordinate_is_for_ever_the_same() -> None:
    assert derive_seed(0, "kodim01.png", 10.0, 1 / 12, "awgn", 0) == 4251126590


def test_differences_are_told_by_name() -> None:
    old = {"plan": {"snr_db": [0], "seed": 1}, "gone": 1}
    new = {"plan": {"snr_db": [0, 10], "seed": 1}}
    assert difference(old, new) == ["gone was 1, is absent", "plan.snr_db was [0], is [0, 10]"]


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("campaign_*.yaml")))
def test_committed_plans_load(name: str) -> None:
    assert load_plan(CONFIGS / name).name


def test_shipped_pictures_need_no_download() -> None:
    design = resolve(tiny_plan(Path(), images=("skimage.data.astronaut",), models=("digital",)))
    assert design.pictures[0].name == "astronaut.png" and Path(design.pictures[0].path).is_file()
