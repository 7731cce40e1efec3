"""README and guides: the commands that they print are commands, the files that they name are there."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import lrisc

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = vars(typer.main.get_command(lrisc.app))["commands"]


def shell_lines(page: Path) -> list[str]:
    """What stands in the shell blocks of a page, one command a line."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [
        part.strip()
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        for part in line.split("&&")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_a_page_are_understood(page: Path) -> None:
    """Names, options and their types are right; nothing is run."""
    for line in shell_lines(page):
        words = shlex.split(line, comments=True)
        if words[:1] == ["lrisc"]:
            try:
                COMMANDS[words[1]].make_context(words[1], words[2:])
            except Exception as error:
                pytest.fail(f"{page.name}: {line}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_settings_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"configs/[\w.]+\.yaml", text):
        assert (ROOT / name).is_file(), name
