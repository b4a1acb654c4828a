"""Reads a Containerfile, as far as ours goes."""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tests.deploy.tools import DEPLOY, ROOT

FILE = DEPLOY / "container" / "Containerfile"
IGNORE = FILE.with_name("Containerfile.dockerignore")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, in the stage that it belongs to."""

    stage: str
    name: str
    words: str


def instructions() -> list[Instruction]:
    text = re.sub(r"(?m)^#.*\n", "", FILE.read_text()).replace("\\\n", " ")
    found: list[Instruction] = []
    stage = ""
    for line in filter(None, text.splitlines()):
        name, _, words = line.partition(" ")
        if name == "FROM":
            base, _, given = words.partition(" AS ")
            stage, words = given, base
        found.append(Instruction(stage, name, " ".join(words.split())))
    return found


def said(name: str, stage: str = "") -> list[str]:
    """The words of each such instruction of a stage; the last stage has no name."""
    return [one.words for one in instructions() if (one.stage, one.name) == (stage, name)]


def is_ignored(path: Path) -> bool:
    """Whether the ignore file keeps a file of the repository from the build."""
    name = path.relative_to(ROOT).as_posix()
    ignored = False
    for pattern in filter(None, re.sub(r"(?m)^#.*\n", "", IGNORE.read_text()).splitlines()):
        wanted = pattern.removeprefix("!")
        fits = (
            fnmatch(f"/{name}", wanted.replace("**/", "*/"))
            or fnmatch(f"/{name}", wanted.replace("**/", "*/") + "/*")
            if wanted.startswith("**/")
            else wanted == "*" or name == wanted or name.startswith(f"{wanted}/")
        )
        if fits:
            ignored = not pattern.startswith("!")
    return ignored


def copied(target: Path) -> None:
    """Does what the build stage's COPY instructions do, below `target`, with what the build would be sent."""
    for words in said("COPY", "build"):
        *sources, place = words.split()
        for source in sources:
            for file in _files(ROOT / source):
                if is_ignored(file):
                    continue
                inner = file.relative_to(ROOT / source) if (ROOT / source).is_dir() else Path()
                to = target / place.lstrip("/") / (inner if (ROOT / source).is_dir() else Path())
                if place.endswith("/"):
                    to = to / file.name
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(file.read_bytes())


def _files(source: Path) -> list[Path]:
    return [source] if source.is_file() else [file for file in sorted(source.rglob("*")) if file.is_file()]
