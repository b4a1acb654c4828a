"""All planted faults, the progress that is kept of them, and the choice of some where time is short."""

import hashlib
import importlib
import json
import pkgutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.planted import rooms
from tests.planted.fault import ROOT, Fault, Schedules
from tests.planted.trial import Verdict

PROGRESS = ROOT / "build" / "planted.json"
#: What a schedule depends on, besides the product.
SIMULATION = ROOT / "tests" / "simulation"
#: How many commits count as just made where there is no branch to compare with.
RECENT = 10


def every() -> tuple[Fault, ...]:
    """Return all faults, room by room."""
    modules = sorted(one.name for one in pkgutil.iter_modules(rooms.__path__))
    found = [
        fault for name in modules for fault in importlib.import_module(f"{rooms.__name__}.{name}").FAULTS
    ]
    return tuple(found)


def files(fault: Fault) -> list[Path]:
    """Return the files that the fault and its tests are made of."""
    if isinstance(fault.found_by, Schedules):
        return [fault.path, *sorted(SIMULATION.glob("*.py"))]
    return [fault.path, *sorted({ROOT / test.partition("::")[0] for test in fault.found_by})]


def key(fault: Fault) -> str:
    """Return what changes when a verdict on this fault may change: the fault, its module, its tests."""
    digest = hashlib.sha256(repr(fault).encode())
    for path in files(fault):
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


class Progress:
    """The faults that were found already, kept over runs."""

    def __init__(self, path: Path = PROGRESS) -> None:
        self._path = path
        self._found: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}

    def left(self, faults: Iterable[Fault]) -> list[Fault]:
        """Return those that were not found yet, or that may have changed since."""
        return [one for one in faults if self._found.get(one.name) != key(one)]

    def note(self, fault: Fault, verdict: Verdict) -> None:
        """Remember a fault that was found; the others are tried again each time."""
        if verdict.result != "found":
            return
        self._found[fault.name] = key(fault)
        self._path.parent.mkdir(exist_ok=True)
        aside = self._path.with_suffix(".new")
        aside.write_text(json.dumps(self._found, indent=1, sort_keys=True))
        aside.replace(self._path)


def some(faults: tuple[Fault, ...], number: int) -> list[Fault]:
    """Return this many: those whose files were changed lately, then others, in turn."""
    changed = _changed()
    turn = int(hashlib.sha256(_git("rev-parse", "HEAD").encode()).hexdigest(), 16)
    lately: list[Fault] = []
    others: list[Fault] = []
    for one in faults:
        (lately if changed.intersection(files(one)) else others).append(one)
    chosen = []
    for group in (lately, others):
        start = turn % len(group) if group else 0
        chosen += group[start:] + group[:start]
    return chosen[:number]


def _changed() -> set[Path]:
    """Return the files that differ from where this branch left the main one, or from some commits ago."""
    head = _git("rev-parse", "HEAD")
    bases = (_git("merge-base", "HEAD", "origin/main"), _git("rev-parse", f"HEAD~{RECENT}"))
    base = next((one for one in bases if one and one != head), head)
    return {ROOT / line for line in _git("diff", "--name-only", base).splitlines()} if base else set()


def _git(*arguments: str) -> str:
    """Return what git answers, nothing where there is no history to ask."""
    asked = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607  git is found on the path, wherever it is installed
    return asked.stdout.strip() if asked.returncode == 0 else ""
