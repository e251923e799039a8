"""The code of the pages: blocks in order, with the commands of each."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.kedro_command import PROJECT

SHELL = ("bash", "sh", "console")
PROGRAMS = (
    *("kedro", "make", "python", "python3", "pip", "mlflow", "nqcast", "torchrun", "git", "source", "export", "curl"),
    *("pre-commit", "mkdocs", "tensorboard", "wandb", "docker", "dask", "optuna-dashboard", "mkdir", "cp", "sed", "cd"),
)
_EXCUSE = re.compile(r"<!-- not run by the tests: (?P<why>\S.{9,}) -->")
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w+-]*)[^`]*$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `excuse` is why the tests do not run it, if the page says so."""

    page: str
    line: int
    language: str
    text: str
    excuse: str | None

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Shell commands, one a line: continuations joined, prompts and comments taken off."""
        joined = self.text.replace("\\\n", " ")
        lines = [re.sub(r"(^|\s)#(\s.*)?$", "", line.removeprefix("$ ")) for line in joined.splitlines()]
        return [" ".join(line.split()) for line in lines if line.strip()]


def pages() -> list[Path]:
    """Everything a newcomer reads."""
    top = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    folders = [PROJECT / name / "README.md" for name in ("data", "notebooks")]
    return [*top, *folders, *sorted((PROJECT / "docs").rglob("*.md"))]


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of one page, in order."""
    page, lines = path.relative_to(PROJECT).as_posix(), path.read_text().splitlines()
    found: list[Block] = []
    opened: tuple[int, str, str] | None = None
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened = number, fence["language"], fence["ticks"]
        elif opened is not None and fence and fence["ticks"] == opened[2] and not fence["language"]:
            text = textwrap.dedent("\n".join(lines[opened[0] : number - 1]))
            excuse = _EXCUSE.search(lines[opened[0] - 2]) if opened[0] > 1 else None
            found.append(Block(page, opened[0], opened[1], text, excuse["why"] if excuse else None))
            opened = None
    assert opened is None, f"{page}:{opened}: a block that does not end"
    return found


def all_blocks() -> list[Block]:
    """The blocks of every page."""
    return [block for path in pages() for block in blocks_of(path)]


def shell_blocks() -> list[Block]:
    """Blocks of commands."""
    return [block for block in all_blocks() if block.language in SHELL]


def looks_like_a_command(line: str) -> bool:
    """Whether a line begins as a shell command does, whatever the block says that it is."""
    words = line.strip().removeprefix("$ ").split()
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    return len(words) > 1 and Path(words[0]).name in PROGRAMS


def unfenced_lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of the lines outside fences."""
    inside, found = False, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            found.append((number, line))
    return found
