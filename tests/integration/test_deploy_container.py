"""The image: what can be known of it without building it."""

import os
import re
from pathlib import Path

import pytest

from tests.ci import under_ci
from tests.deploy.containerfile import FILE, copied, instructions, is_ignored, said
from tests.deploy.tools import ROOT, program, run
from tests.integration.processes import environment


def test_the_linter_has_nothing_to_say() -> None:
    """Hadolint knows the traps of images, and of the shell within."""
    assert "" == run(program("hadolint"), str(FILE))


def test_everything_that_is_copied_exists_and_is_sent() -> None:
    """A source that is missing, or that the ignore file holds back, breaks the build."""
    sources = {source for words in said("COPY", "build") for source in words.split()[:-1]}

    assert {
        "LICENSE",
        "README.md",
        "handlers",
        "orchestrator",
        "pyproject.toml",
        "requirements/runtime.txt",
        "schemas",
    } == sources
    assert [] == [source for source in sources if not (ROOT / source).exists()]
    assert [] == [source for source in sources if (ROOT / source).is_file() and is_ignored(ROOT / source)]
    for held_back in (
        ".git/config",
        "tests/conftest.py",
        "deploy/compose/radera.toml",
        "radera-demo/radera.keys",
    ):
        assert is_ignored(ROOT / held_back), held_back
    assert is_ignored(ROOT / "orchestrator/__pycache__/log.cpython-313.pyc")
    assert not is_ignored(ROOT / "orchestrator/log.py")


def test_it_runs_as_a_number_and_keeps_no_secret() -> None:
    """A platform can tell that it is not root only from a number; and a variable of the image is for all to
    read.
    """
    (user,) = said("USER")
    assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", user)
    assert ['["radera"]'] == said("ENTRYPOINT")
    assert [] == [one for one in instructions() if one.name in ("ADD", "HEALTHCHECK", "VOLUME")]
    settings = " ".join(said("ENV"))
    assert [] == re.findall(r"(?i)[\w]*(?:password|token|secret|_keys?)\b", settings)


@pytest.mark.timeout(600)
def test_its_commands_make_an_installation_that_works(tmp_path: Path) -> None:
    """The build's own commands, on what the build would be sent, in another directory: Radera is installed
    with nothing beside it that is not locked, and runs.

    It fetches packages, so that at home it is only done on demand.
    """
    if not (under_ci() or os.environ.get("RADERA_TEST_IMAGE")):
        pytest.skip("installs every package anew: set RADERA_TEST_IMAGE=1")
    copied(tmp_path)
    for words in said("RUN", "build"):
        moved = re.sub(r"(?<![\w.])/(opt|source)\b", rf"{tmp_path}/\1", words)
        run("sh", "-ec", moved.replace("python -m venv", f"{program('python3')} -m venv"), limit=400)

    binary = tmp_path / "opt/radera/bin"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert "radera" in run(str(binary / "radera"), "--version", cwd=elsewhere, env=environment())
    handlers = "from handlers.registry import find; print(*sorted(find()))"
    assert "google_analytics hubspot recruitment superoffice tenant\n" == run(
        str(binary / "python"), "-c", handlers, cwd=elsewhere
    )
    installed = run(
        str(binary / "python"),
        "-c",
        "from importlib.metadata import distributions as d; print(*sorted(x.name.lower() for x in d()))",
        cwd=elsewhere,
    ).split()
    assert set() == {"pip", "hatchling", "pytest"} & set(installed)
