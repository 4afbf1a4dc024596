"""What the pages tell a reader to type can be typed."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import napari_medvlseg
from napari_medvlseg.cli import build_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK = r"^```{language}\n(.*?)^```"


def _blocks(language: str) -> Iterator[tuple[Path, str]]:
    """Yield each fenced block of a language, and the page that it is on."""
    pattern = re.compile(BLOCK.format(language=language), re.MULTILINE | re.DOTALL)
    for page in PAGES:
        for block in pattern.findall(page.read_text(encoding="utf-8")):
            yield page, block


def _commands() -> set[str]:
    """Return every medvlseg command in the shell blocks."""
    lines = (
        line.split("  #")[0].strip().removeprefix("$ ")
        for _, block in _blocks("sh")
        for line in block.replace("\\\n", " ").splitlines()
    )
    return {line for line in lines if line.startswith("medvlseg ")}


def _imported_names() -> set[str]:
    """Return every name that the Python blocks import from the package."""
    return {
        alias.name
        for _, block in _blocks("python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and node.module == "napari_medvlseg"
        for alias in node.names
    }


@pytest.mark.parametrize("command", sorted(_commands()))
def test_a_command_on_a_page_is_understood(command: str) -> None:
    options = build_parser().parse_args(shlex.split(command)[1:])
    assert options.command_function


@pytest.mark.parametrize("name", sorted(_imported_names()))
def test_a_name_on_a_page_is_public(name: str) -> None:
    assert name in napari_medvlseg.__all__
    assert getattr(napari_medvlseg, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_a_page_links_to_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
