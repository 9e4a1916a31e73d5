"""The pages that people read, and what is in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")),
    ]
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page on which it begins."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """What a reader would type, on one line and without its comment; the line of the page; what is shown below it."""

    text: str
    line: int
    shown: str = ""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    tokens = MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))
    return [
        Block(token.info.strip(), token.content, token.map[0] + 1)
        for token in tokens
        if token.type in {"fence", "code_block"} and token.map
    ]


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


def commands(block: Block) -> list[Command]:
    """The commands of a block: in `console` those after a `$`, with what they print; in `bash` every line."""
    if block.language not in {"bash", "console"}:
        return []
    found = []
    lines = iter(enumerate(block.text.splitlines(), block.line + 1))
    for at, first in lines:
        if block.language == "console" and not first.startswith("$ "):
            found[-1] = Command(found[-1].text, found[-1].line, f"{found[-1].shown}{first}\n")
            continue
        typed = first.removeprefix("$ ")
        while typed.endswith("\\"):
            typed = typed[:-1] + next(lines)[1]
        found.append(Command(" ".join(re.sub(r"\s#\s.*", "", typed).split()), at))
    return found
