"""Rules of the repository that no linter keeps.

What is forbidden is spelled here in pieces, so that this file does not break its own rules.
"""

import ast
import io
import re
import socket
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.conftest import ReachedOutside

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements/runtime.txt", "requirements/dev.txt")
PACKAGES = ("orchestrator", "handlers", "schemas")
LONGEST_MODULE = 600

REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("golang", "org"),
        ("rubygems", "org"),
        ("anaconda", "org"),
    )
]
MACHINE_PATHS = [
    re.compile(r"(?<![\w.$}-])/" + path)
    for path in ("work/", "root/", "opt/wheels", "tmp/" + "radera", r"home/\w", r"Users/\w")
]
SHARED_WITH_HANDLERS = ("bus", "privacy", "http", "smtp", "metrics", "log", "secret", "settings")


def repository_files() -> Iterator[Path]:
    """Every file that is, or could be, committed: all but what .gitignore names, and other environments."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()] + [".git"]

    def below(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if any(fnmatch(path.name, pattern) for pattern in ignored):
                continue
            if not path.is_dir():
                yield path
            elif not (path / "pyvenv.cfg").exists():
                yield from below(path)

    return below(ROOT)


def modules(*folders: str) -> Iterator[Path]:
    wanted = {ROOT / folder for folder in folders}
    return (path for path in repository_files() if path.suffix == ".py" and wanted & set(path.parents))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def pins(lock: str) -> dict[str, str]:
    """Each requirement of a lock, with everything that is said of it."""
    text = re.sub(r"(?m)^\s*#.*\n?", "", (ROOT / lock).read_text())
    entries = text.replace("\\\n", " ").splitlines()
    return {entry.split("==")[0]: entry for entry in entries if entry.strip()}


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_requirement_has_a_version_and_hashes(lock: str) -> None:
    """What is installed is what was locked, to the byte: each requirement has a version and hashes."""
    loose = [
        entry
        for entry in pins(lock).values()
        if not re.fullmatch(r"[a-z0-9.-]+==\S+( ; [^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", entry)
    ]

    assert [] == loose


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_no_address(lock: str) -> None:
    """A lock says what, never where from: the place is the installation's own business."""
    assert [] == re.findall(r"\w+://|--(?:extra-)?index-url|--find-links", (ROOT / lock).read_text())


def test_the_dev_lock_holds_the_runtime_lock() -> None:
    """Tests run on exactly the versions that users get."""
    runtime, dev = (pins(lock) for lock in LOCKS)

    assert runtime == {name: dev.get(name) for name in runtime}


def test_the_locks_hold_all_that_the_project_asks_for() -> None:
    """A dependency added to pyproject.toml and not locked would break every installation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    dev = project["project"]["optional-dependencies"]["dev"]
    asked = [*project["project"]["dependencies"], *project["build-system"]["requires"]]

    names = [re.match(r"[A-Za-z0-9-]+", requirement) for requirement in asked + dev]
    unlocked = {name[0] for name in names if name} - set(pins("requirements/dev.txt"))
    assert set() == unlocked
    runtime_names = {re.split(r"[<>=~! \[]", requirement)[0] for requirement in asked}
    assert set() == runtime_names - set(pins("requirements/runtime.txt"))


def test_no_file_names_a_registry_or_a_place_on_a_machine() -> None:
    """The repository works wherever it is cloned, with whatever mirror of packages is configured there."""
    patterns = [re.compile(rf"\b{re.escape(host)}\b") for host in REGISTRY_HOSTS] + MACHINE_PATHS
    found = []
    for path in repository_files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{name_of(path)}: {match[0]}" for pattern in patterns for match in pattern.finditer(text)]

    assert [] == found


def test_every_exemption_gives_its_reason() -> None:
    """A checker is silenced only with a reason on the same line, for the next reader to judge."""
    marker = re.compile(r"#\s*(?:type:\s*ignore|noqa)(?:\[[\w, -]*\]|:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?(.*)")
    bare = []
    for path in modules(*PACKAGES, "tests"):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            match = marker.search(token.string) if token.type == tokenize.COMMENT else None
            if match and len(re.findall(r"[^\W\d_]{2,}", match[1])) < 2:
                bare.append(f"{name_of(path)}:{token.start[0]}: {token.string}")

    assert [] == bare


def test_every_test_says_what_must_hold() -> None:
    """A test without a docstring tells whoever breaks it nothing."""
    silent = [
        f"{name_of(path)}:{node.lineno}: {node.name}"
        for path in modules("tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]

    assert [] == silent


def test_modules_fit_in_the_head() -> None:
    """No module passes 600 lines, and none has a name that would take in anything."""
    vague = {"utils", "util", "helpers", "helper", "manager", "misc", "common"}
    wrong = [
        name_of(path)
        for path in modules(*PACKAGES, "tests")
        if len(path.read_text().splitlines()) > LONGEST_MODULE
        or path.stem in vague
        or path.parent.name in vague
    ]

    assert [] == wrong


def test_the_saga_imports_the_standard_library_and_itself_alone() -> None:
    """The saga's rules can be read, run and tested with nothing but Python.

    The import contract of the same meaning can only list the packages that are known.
    """
    foreign = [
        f"{name_of(path)}: {name}"
        for path in modules("orchestrator/saga")
        for name in imports_of(path)
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("orchestrator.saga")
    ]

    assert [] == foreign


def test_handlers_import_the_shared_parts_of_the_orchestrator_alone() -> None:
    """A third party's handler can be written against a small, stable part of Radera, as ours are."""
    beyond = [
        f"{name_of(path)}: {name}"
        for path in modules("handlers")
        for name in imports_of(path)
        if name.startswith("orchestrator") and name.split(".")[1] not in SHARED_WITH_HANDLERS
    ]

    assert [] == beyond


def test_what_ci_means_is_said_in_one_place() -> None:
    """Asked in several ways, one test would be skipped in silence where all others fail."""
    asked = re.compile(r"""environ[^\n]*["']CI["']""")

    assert ["tests/ci.py"] == [name_of(path) for path in modules("tests") if asked.search(path.read_text())]


def test_tests_cannot_reach_beyond_the_machine() -> None:
    """A test that forgets a stand-in fails at once instead of calling a real vendor."""
    with socket.socket() as outgoing, pytest.raises(ReachedOutside):
        outgoing.connect(("192.0.2.1", 443))
