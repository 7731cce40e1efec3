"""Print the pins of a constraints file as they apply to this machine.

Run by the distribution's own interpreter, before anything is installed. Two packages may be there already
and must then stay what they are:

- NumPy: GNU Radio's bindings work with the major version that they were built against, which is the
  distribution's. Where that is NumPy 1 the pin stands; where it is a newer one, that one is kept.
- torch: it is large and tied to the GPU's driver, so an installed one that is new enough is kept.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# The oldest version worth keeping; for torch the lower bound in pyproject.toml.
KEEP_FROM = {"numpy": (2, 0), "torch": (2, 5)}


def installed(package: str) -> str | None:
    """Version of `package` in this interpreter, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def pin(line: str) -> str:
    """Return `line` of a constraints file, its version replaced by an installed one that is to be kept."""
    package = line.split("==")[0]
    found = installed(package) if package in KEEP_FROM else None
    if found is None:
        return line
    major, minor = (int(number) for number in re.findall(r"\d+", found)[:2])
    return f"{package}=={found}" if (major, minor) >= KEEP_FROM[package] else line


if __name__ == "__main__":
    print("\n".join(pin(line) for line in Path(sys.argv[1]).read_text().splitlines()))
