"""The programs and packages with which deployments are checked.

What is missing makes its tests skip, visibly; under CI it makes them fail, since there a check that is not
made would pass for one that was.
"""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from tests.ci import cannot_run

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def program(name: str) -> str:
    """The path of a program, which is looked for beside this Python and where Go puts its own, too."""
    places = [os.environ.get("PATH", ""), str(Path(sys.executable).parent), os.environ.get("GOBIN", "")]
    found = shutil.which(name, path=os.pathsep.join([*places, str(Path.home() / "go" / "bin")]))
    if found is None:
        _missing(f"the program {name}")
    return str(found)


def package(name: str) -> Any:
    """A package that only these tests use."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        _missing(f"the package {name}")


def documents(text: str) -> list[dict[str, Any]]:
    """The YAML documents of a text."""
    found: list[dict[str, Any]] = [one for one in package("yaml").safe_load_all(text) if one]
    return found


def run(
    *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, limit: float = 110
) -> str:
    """The standard output of a program that must end well."""
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=limit, check=False)
    assert 0 == done.returncode, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _missing(what: str) -> NoReturn:
    cannot_run(f"{what} is missing: deploy/README.md says how it is had")
