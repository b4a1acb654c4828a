"""The commands of a page of `deploy`, as an operator would type them."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.ci import cannot_run
from tests.integration.processes import RADERA, environment

DEPLOY = Path(__file__).parents[2] / "deploy"


def blocks(page: str, heading: str) -> list[list[str]]:
    """The blocks of commands below a heading of a page of `deploy`, each in lines."""
    text = (DEPLOY / page).read_text()
    found = re.search(rf"^##+ {heading}$(.*?)(?=^##+ |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return [block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```$", found[1], re.DOTALL | re.M)]


def carried_out(line: str, root: Path, **more: str) -> str:
    """Run one command, with this machine's places. It must end well; what it prints."""
    return typed(line, root, **more).stdout


def typed(line: str, root: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The same; also what it says besides."""
    for place in ("/etc/radera", "/backups", "/aside"):
        line = line.replace(place, f"{root}{place}")
    words = shlex.split(line)
    if shutil.which(words[0]) is None and words[0] != "radera":
        cannot_run(f"there is no {words[0]} on this machine")
    words[0] = RADERA if words[0] == "radera" else words[0]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        cwd=DEPLOY,
        env=environment(**more),
    )
    assert 0 == done.returncode, (line, done.stderr)
    return done


def begun(line: str, places: Mapping[str, Path], **variables: str) -> "subprocess.Popen[str]":
    """Start one command of a page, with this machine's places for the page's, and do not wait. What it prints
    goes where the page puts it, or else is told by `ended`.
    """
    command, _, target = line.partition(" > ")
    for place, here in places.items():
        pattern = rf"(?<![\w.-]){re.escape(place)}(?=/|$| )"
        command, target = (re.sub(pattern, str(here), text) for text in (command, target))
    words = shlex.split(command)
    words[0] = RADERA if words[0] == "radera" else words[0]
    with (Path(target.strip()) if target else Path(os.devnull)).open("w") as file:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file if target else subprocess.PIPE,
            stderr=subprocess.PIPE if target else subprocess.STDOUT,
            text=True,
            cwd=DEPLOY,
            env=environment(**variables),
        )


def ended(process: "subprocess.Popen[str]", *, within: float = 300.0) -> tuple[int, str]:
    """Wait for a command's end; return its exit code and what it printed, on both streams."""
    said = "".join(filter(None, process.communicate(timeout=within)))
    return process.returncode, said
