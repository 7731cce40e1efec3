"""The installation, without installing: what is declared, what scripts/setup.sh decides, what goes into a wheel.

conda-forge is not reached from here. The branch for an activated conda environment runs in a stand-in: a prefix whose
bin/python is a bare virtual environment that sees this interpreter's packages.
"""

import ast
import os
import shutil
import site
import stat
import subprocess
import sys
import time
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from scripts import pins

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [Requirement(text) for text in [*PROJECT["dependencies"], *(r for extra in EXTRAS.values() for r in extra)]]
PACKAGES = ("calibration", "commands", "flowgraphs", "models", "sdr")
NAME_ON_CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
DISTRIBUTION_OF = {  # where the two names differ
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
NOT_ON_PYPI = {"gnuradio", "pmt", "PyQt5", "SoapySDR"}


def imports(file: Path) -> set[str]:
    """Top-level names that `file` imports, at module level or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


# ---------------------------------------------------------------- what is declared


def test_every_declared_package_is_pinned_within_its_range() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in lines}
    for requirement in DECLARED:
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_conda_environment_declares_the_same_ranges() -> None:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_pip = next(entry for entry in dependencies if isinstance(entry, dict))["pip"]
    plain = [entry for entry in dependencies if isinstance(entry, str) and "*" not in entry]
    conda = {canonicalize_name(found.name): found for found in map(Requirement, plain + by_pip)}
    for requirement in DECLARED:
        name = canonicalize_name(NAME_ON_CONDA.get(requirement.name, requirement.name))
        assert conda[name].specifier == requirement.specifier, requirement


@pytest.mark.parametrize("package", [*PACKAGES, "lrisc.py"])
def test_every_third_party_import_is_declared(package: str) -> None:
    optional = [*EXTRAS["camera"], *EXTRAS["cluster"], *EXTRAS["cpu"]]
    runtime = {canonicalize_name(Requirement(text).name) for text in [*PROJECT["dependencies"], *optional]}
    own = {*PACKAGES, "lrisc"}
    files = [ROOT / package] if package.endswith(".py") else (ROOT / package).rglob("*.py")
    for file in files:
        for name in imports(file) - own - NOT_ON_PYPI - sys.stdlib_module_names:
            assert canonicalize_name(DISTRIBUTION_OF.get(name, name)) in runtime, f"{file} imports {name}"


def test_the_command_reaches_radios_only_through_the_layers_below() -> None:
    for file in (ROOT / "lrisc.py", *(ROOT / "commands").glob("*.py")):
        assert not imports(file) & NOT_ON_PYPI


# ---------------------------------------------------------------- pins


@pytest.mark.parametrize(
    ("line", "installed", "expected"),
    [
        ("numpy==1.26.4", "1.24.2", "numpy==1.26.4"),  # Debian 12
        ("numpy==1.26.4", "2.2.4", "numpy==2.2.4"),  # a GNU Radio built against NumPy 2
        ("torch==2.13.0", "2.6.0+cu124", "torch==2.6.0+cu124"),
        ("torch==2.13.0", "1.13.1", "torch==2.13.0"),
        ("torch==2.13.0", None, "torch==2.13.0"),
        ("scipy==1.17.1", "1.10.1", "scipy==1.17.1"),
        ("# a remark", None, "# a remark"),
    ],
)
def test_pins_follow_what_the_machine_has(
    line: str, installed: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins, "installed", lambda package: installed)
    assert pins.pin(line) == expected


def test_oldest_torch_that_is_kept_is_the_declared_one() -> None:
    torch = next(requirement for requirement in DECLARED if requirement.name == "torch")
    assert str(torch.specifier) == ">=" + ".".join(map(str, pins.KEEP_FROM["torch"]))


# ---------------------------------------------------------------- scripts/setup.sh


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the tree without anything that setup made."""
    made = shutil.ignore_patterns(".*", "out", "runs", "checkpoints", "build", "*.egg-info", "__pycache__")
    return shutil.copytree(ROOT, tmp_path / "checkout", ignore=made)


def write_tool(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/bash\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def make_conda(prefix: Path, *, radio: bool) -> dict[str, str]:
    """Stand-in for an activated environment, seeing this one's packages if `radio`; apt-get leaves a trace."""
    venv.create(prefix, system_site_packages=False, with_pip=False)
    if radio:
        library = next(prefix.glob("lib/python*/site-packages"))
        seen = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        (library / "seen.pth").write_text("\n".join([*seen, *site.getsitepackages()]) + "\n")
    write_tool(prefix / "bin", "apt-get", f"touch {prefix}/apt-was-called; exit 1")
    # What it builds is built by `make setup` itself, and tried in tests/native: here it need only be asked for.
    write_tool(prefix / "bin", "cmake", "mkdir -p build/soapy; touch build/soapy/liblriscVirtual.so")
    path = f"{prefix}/bin:{os.environ['PATH']}"
    return {**os.environ, "CONDA_PREFIX": str(prefix), "CONDA_DEFAULT_ENV": "lrisc", "PATH": path}


def setup(checkout: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["/bin/bash", "scripts/setup.sh"]
    return subprocess.run(command, cwd=checkout, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def test_in_conda_only_the_project_is_installed_and_only_once(checkout: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "conda"
    env = make_conda(prefix, radio=True)

    first = setup(checkout, env)
    assert first.returncode == 0, first.stderr
    assert (prefix / "bin" / "lrisc").exists()
    assert not (checkout / ".venv").exists()
    assert not (prefix / "apt-was-called").exists()

    begun = time.monotonic()
    second = setup(checkout, env)
    assert (second.returncode, second.stderr) == (0, "")
    assert time.monotonic() - begun < 3.0

    (checkout / "constraints.txt").write_text("numpy==1.26.4\n")
    assert "done" in setup(checkout, env).stderr


def test_a_conda_environment_without_radio_is_told_how_to_get_it(checkout: Path, tmp_path: Path) -> None:
    done = setup(checkout, make_conda(tmp_path / "conda", radio=False))
    assert done.returncode == 1
    assert "run: conda env update --name lrisc --file environment.yml" in done.stderr
    assert not (tmp_path / "conda" / "apt-was-called").exists()


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """Environment in which SoapySDR's tools are missing and nobody is root; sudo is not there either."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "cat", "dirname", "env", "grep", "sed", "sha256sum", "tr"):
        (tools / name).symlink_to(shutil.which(name) or name)
    write_tool(tools, "id", "echo 1000")
    write_tool(tools, "apt-get", "exit 0")
    return {"PATH": str(tools), "HOME": str(tmp_path)}


def test_without_root_and_sudo_the_command_for_an_administrator_is_named(checkout: Path, bare: dict[str, str]) -> None:
    done = setup(checkout, bare)
    assert done.returncode == 1
    assert "neither root nor sudo is available" in done.stderr
    command = done.stderr.splitlines()[-1]
    assert "apt-get update && apt-get install --no-install-recommends" in command
    assert "soapysdr-tools" in command
    assert not (checkout / ".venv").exists()


def test_with_sudo_apt_is_asked_without_questions(checkout: Path, bare: dict[str, str]) -> None:
    write_tool(Path(bare["PATH"]), "sudo", f'echo "call: $*" >>{checkout}/sudo.log; [ "${{@: -1}}" != soapysdr-tools ]')
    done = setup(checkout, bare)
    assert done.returncode == 1
    assert "apt failed" in done.stderr
    calls = (checkout / "sudo.log").read_text().splitlines()
    assert calls[0] == "call: -n true"
    assert calls[1].startswith("call: env DEBIAN_FRONTEND=noninteractive apt-get") and calls[1].endswith("update")
    assert "install -y --no-install-recommends" in calls[2]


def test_without_apt_conda_is_pointed_at(checkout: Path, bare: dict[str, str]) -> None:
    (Path(bare["PATH"]) / "apt-get").unlink()
    done = setup(checkout, bare)
    assert done.returncode == 1
    assert "conda env create --file environment.yml" in done.stderr


# ---------------------------------------------------------------- the package


def test_a_wheel_carries_code_configs_flowgraphs_and_weights(checkout: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "-qq", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(checkout)], check=True, timeout=120)
    contents = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    expected = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    expected += [ROOT / "lrisc.py", *(ROOT / "configs").glob("*.yaml"), *(ROOT / "flowgraphs").rglob("*.grc")]
    expected += [path for path in (ROOT / "models" / "weights").rglob("*") if path.is_file()]
    assert {str(path.relative_to(ROOT)) for path in expected} <= contents
