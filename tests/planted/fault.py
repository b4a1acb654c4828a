"""A fault, and how it gets into the product.

A fault is a replacement in the text of one module, made while the module is loaded. So it reaches whatever
the text makes: a function, a default, a row of a table, a statement in SQL. The replaced text must be found
once, and once only, in the named place. Line breaks, spaces and a last comma don't matter, so a formatter may
move it. When the text is gone, `Broken` says so: whoever changed the code changes the fault with it.
"""

import ast
import importlib.abc
import importlib.machinery
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from typing_extensions import override

ROOT = Path(__file__).parents[2]


class Broken(Exception):
    """A fault that can't be planted, or whose tests can't be run: mend the fault."""


@dataclass(frozen=True, slots=True)
class Schedules:
    """Schedules of the simulation. One of them must break one of these invariants, and must not without the
    fault.
    """

    invariants: tuple[str, ...]
    within: int = 20
    trouble: Mapping[str, Any] = field(default_factory=dict)


def schedules(*invariants: str, within: int = 20, **trouble: Any) -> Schedules:
    """Return the schedules 0 to `within`, with this trouble and no other."""
    return Schedules(invariants, within, trouble)


@dataclass(frozen=True, slots=True)
class Fault:
    """A breach of one promise of the product: `was` becomes `becomes`, in one place of one module.

    `found_by` names the tests that are meant to find it; one of them must fail. A fault that no test can find
    says in `harmless` why it changes nothing that anybody could notice.
    """

    name: str
    module: str
    within: str
    was: str
    becomes: str
    found_by: tuple[str, ...] | Schedules
    harmless: str

    @property
    def path(self) -> Path:
        """The file that holds the module."""
        path = ROOT.joinpath(*self.module.split("."))
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    def source(self) -> str:
        """Return the module's text with the fault in it."""
        if not self.path.is_file():
            raise Broken(f"there is no {self.path.relative_to(ROOT)}")
        text = self.path.read_text()
        start, end = _span(text, self.within)
        found = list(_pattern(self.was).finditer(text, start, end))
        if len(found) != 1:
            times = "is gone" if not found else f"stands there {len(found)} times"
            raise Broken(f"`{self.was}` {times}: {self.path.relative_to(ROOT)}, {self.within or 'anywhere'}")
        begin = found[0].start()
        column = begin - text.rfind("\n", 0, begin) - 1
        changed = textwrap.indent(self.becomes, " " * column).lstrip(" ")
        return text[:begin] + changed + text[found[0].end() :]

    def code(self) -> CodeType:
        """Return the module with the fault in it, compiled."""
        try:
            return compile(self.source(), str(self.path), "exec", dont_inherit=True)
        except SyntaxError as wrong:
            raise Broken(f"`{self.becomes}` doesn't compile there: {wrong}") from wrong

    def plant(self) -> None:
        """Load the module with the fault from now on; nothing may have loaded it yet."""
        if self.module in sys.modules:
            raise Broken(f"{self.module} is loaded already")
        sys.meta_path.insert(0, _Finder(self))


def fault(
    name: str, place: str, was: str, becomes: str, *found_by: str | Schedules, harmless: str = ""
) -> Fault:
    """Return a fault at a place, which is `module:function`, `module:Class.method` or `module:TABLE`."""
    module, _, within = place.partition(":")
    tests = tuple(one for one in found_by if isinstance(one, str))
    bounds = [one for one in found_by if isinstance(one, Schedules)]
    return Fault(name, module, within, was, becomes, bounds[0] if bounds else tests, harmless)


def _pattern(was: str) -> re.Pattern[str]:
    """Match this text however it is broken into lines."""
    words = re.findall(r"\w+|[^\w\s]", was)
    pattern = ""
    for before, word in zip(["", *words], words, strict=False):
        both_words = re.match(r"\w", word) and re.fullmatch(r"\w+", before)
        comma = r"(?:,\s*)?" if word in ")]}" else ""
        pattern += (r"\s+" if both_words else r"\s*" if before else "") + comma + re.escape(word)
    first, last = (r"\b" if re.match(r"\w", word) else "" for word in (words[0], words[-1]))
    return re.compile(f"{first}{pattern}{last}")


@cache
def _span(text: str, within: str) -> tuple[int, int]:
    """Return where the named function, class or assignment begins and ends."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    node: ast.AST = _parsed(text)
    begin, end = 1, len(starts) - 1
    for name in filter(None, within.split(".")):
        node = _named(node, name, within)
        decorators = getattr(node, "decorator_list", ())
        begin = min([node.lineno, *(one.lineno for one in decorators)])
        end = node.end_lineno or begin
    return starts[begin - 1], starts[end]


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _named(inside: ast.AST, name: str, within: str) -> ast.stmt:
    for node in ast.walk(inside):
        if node is inside or not isinstance(node, ast.stmt):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return node
        targets: Sequence[ast.AST] = ()
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = (node.target,)
        if any(isinstance(one, ast.Name) and one.id == name for one in targets):
            return node
    raise Broken(f"there is no {name} where {within} was")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module that has the fault."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._fault.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None:
            raise Broken(f"there is no {fullname}")
        spec.loader = _Loader(self._fault, fullname, str(self._fault.path))
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, fault: Fault, name: str, path: str) -> None:
        super().__init__(name, path)
        self._fault = fault

    @override
    def get_code(self, fullname: str) -> CodeType:
        return self._fault.code()
