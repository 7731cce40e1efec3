"""What `lrisc doctor` reports: what is installed, which radios and accelerators there are, and what mends the rest.

Every library is tried in an interpreter of its own. A broken one may crash, hang or write to stdout; each of these
becomes one line of the report, and leaves the calling process and its stdout alone.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

_TIMEOUT_S = 120.0  # the first import of torch from a cold disk takes a while


@dataclass(frozen=True)
class Check:
    """One line of the report. `remedy` is a command: it mends a failure, or adds what is merely optional."""

    name: str
    ok: bool
    found: str
    remedy: str | None = None


@dataclass(frozen=True)
class _Probe:
    """Python source whose last line of output says what was found; it exits non-zero on a failure."""

    name: str
    source: str
    remedy: str


def _installer() -> str:
    """Command that installs everything, for the kind of environment that this interpreter belongs to."""
    if (Path(sys.prefix) / "conda-meta").is_dir():
        return "conda env update --file environment.yml"
    return "make setup"


def _pip() -> str:
    return f"{sys.executable} -m pip"


_GNURADIO = """
import numpy
from gnuradio import analog, blocks, channels, digital, gr
print(gr.version(), "with NumPy", numpy.__version__)
"""

_TORCH = """
import torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
names += ["Apple GPU (mps)"] if torch.backends.mps.is_available() else []
print(torch.__version__, "on", ", ".join(names) or f"the CPU ({torch.get_num_threads()} threads)")
"""

_SOAPY_MODULES = """
import SoapySDR, pathlib
modules = [pathlib.Path(path).stem for path in SoapySDR.listModules()]
print(f"API {SoapySDR.getAPIVersion()}, drivers:", ", ".join(modules) or "none")
"""

_SOAPY_DEVICES = """
import SoapySDR
found = [dict(device) for device in SoapySDR.Device.enumerate()]
print("; ".join(f"{d.get('label') or d['driver']} {d.get('serial', '')}".strip() for d in found) or "none attached")
"""

_PILLOW = """
import PIL
from PIL import features
missing = [name for name in ("jpg", "webp", "avif") if not features.check(name)]
print(PIL.__version__, "without " + ", ".join(missing) if missing else "with JPEG, WebP and AVIF")
raise SystemExit(bool(missing))
"""


def _probes() -> tuple[_Probe, ...]:
    install = _installer()
    return (
        _Probe("GNU Radio", _GNURADIO, install),
        _Probe("SoapySDR", _SOAPY_MODULES, install),
        _Probe("radios", _SOAPY_DEVICES, "SoapySDRUtil --find"),
        _Probe("torch", _TORCH, install),
        _Probe("onnxruntime", "import onnxruntime as o; print(o.__version__, *o.get_available_providers())", install),
        _Probe("Pillow", _PILLOW, f"{_pip()} install --upgrade --force-reinstall 'pillow>=11.3'"),
        *(_Probe(name, f"import {name}; print({name}.__version__)", install) for name in ("diffusers", "torchmetrics")),
    )


def _run(probe: _Probe) -> Check:
    """Run `probe` in a new interpreter."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", probe.source], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Check(probe.name, False, f"no answer within {_TIMEOUT_S:.0f} s", probe.remedy)
    output, errors = done.stdout.strip().splitlines(), done.stderr.strip().splitlines()
    if done.returncode == 0:
        return Check(probe.name, True, output[-1])
    if done.returncode < 0:
        return Check(probe.name, False, f"crashed (signal {-done.returncode})", probe.remedy)
    return Check(probe.name, False, (output or errors or ["failed without a word"])[-1], probe.remedy)


def _gnuradio(check: Check) -> Check:
    """Tell the commonest failure, bindings built against another major version of NumPy, by what it is."""
    numpy = importlib.metadata.version("numpy")
    # pybind11 and the older C bindings put it in these words; see the NumPy 2 migration guide.
    if check.ok or not any(text in check.found for text in ("initialization failed", "multiarray", "_ARRAY_API")):
        return check
    other = "<2" if numpy.startswith("2") else ">=2"
    found = f"built against another NumPy than the installed {numpy}"
    return Check(check.name, False, found, f"{_pip()} install 'numpy{other}'")


def _soapy_modules(check: Check) -> Check:
    """No driver is no failure, but worth a hint: without one no radio is ever found."""
    if not check.ok or not check.found.endswith("none"):
        return check
    conda = _installer().startswith("conda")
    install = "conda install" if conda else "apt-get install"
    return Check(check.name, True, check.found, f"{install} soapysdr-module-hackrf soapysdr-module-uhd")


def _torch(check: Check) -> Check:
    """A GPU that torch does not see is a failure; no GPU is none."""
    if not check.ok or "CPU" not in check.found or not Path("/dev/nvidia0").exists():
        return check
    found = f"{check.found}; the NVIDIA GPU is not used: a build without CUDA, or a driver too old for it"
    return Check(check.name, False, found, f"{_pip()} install --force-reinstall torch")


_REFINE = {"GNU Radio": _gnuradio, "SoapySDR": _soapy_modules, "torch": _torch}


def unmet_requirements(extras: Sequence[str] = ()) -> list[str]:
    """Requirements of the installed project, with those of `extras`, that this interpreter does not satisfy.

    Raises `importlib.metadata.PackageNotFoundError` if the project itself is not installed.
    """
    unmet = []
    for text in importlib.metadata.requires("lrisc") or []:
        requirement = Requirement(text)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras)):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found = ""
        if not found or not requirement.specifier.contains(found, prereleases=True):
            unmet.append(f"{requirement.name}{requirement.specifier}")
    return unmet


def _python() -> Check:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    ok = sys.version_info >= (3, 11)
    return Check("Python", ok, found, None if ok else _installer())


def _packages() -> Check:
    try:
        unmet = unmet_requirements()
    except importlib.metadata.PackageNotFoundError:
        return Check("Python packages", False, "the project is not installed", _installer())
    if unmet:
        return Check("Python packages", False, f"missing or of another version: {', '.join(unmet)}", _installer())
    return Check("Python packages", True, "all that the project declares")


def _weights() -> list[Check]:
    """One line per model that ships."""
    try:
        from models import weights

        names = sorted(folder.name for folder in weights.SHIPPED.iterdir() if folder.is_dir())
    except Exception as error:  # whatever a broken torch raises is what there is to report
        return [Check("weights", False, f"{type(error).__name__}: {error}", "git checkout -- models/weights")]
    checks = []
    for name in names:
        try:
            weights.read_card(weights.SHIPPED / name)
            checks.append(Check(f"weights: {name}", True, "as in the model card"))
        except Exception as error:
            checks.append(Check(f"weights: {name}", False, str(error), f"git checkout -- models/weights/{name}"))
    return checks or [Check("weights", False, "none in models/weights", "git checkout -- models/weights")]


def _lpips() -> Check:
    """Optional and fetched when it is first used; here it is only looked for."""
    name = "LPIPS backbone"
    try:
        import torch

        from models.lpips import BACKBONES

        url = BACKBONES["alex"].url
        file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}", _installer())
    fetch = f"{sys.executable} -c 'import torch; torch.hub.load_state_dict_from_url(\"{url}\")'"
    if file.is_file():
        return Check(name, True, str(file))
    return Check(name, True, f"not in {file.parent} yet: fetched when LPIPS is first measured", fetch)


def _write_access() -> Check:
    here = Path.cwd()
    free_gib = shutil.disk_usage(here).free / 2**30
    try:
        tempfile.TemporaryFile(dir=here).close()
    except OSError as error:
        return Check("write access", False, f"{here}: {error.strerror}", "lrisc loopback --out FOLDER")
    return Check("write access", True, f"{here}, {free_gib:.0f} GiB free")


def diagnose() -> list[Check]:
    """Examine this machine. Takes seconds, raises nothing, fetches nothing; `found` is one line each."""
    probes = _probes()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = list(pool.map(_run, probes))
    refined = [_REFINE[check.name](check) if check.name in _REFINE else check for check in results]
    return [_python(), _packages(), *refined, *_weights(), _lpips(), _write_access()]
