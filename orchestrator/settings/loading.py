"""Reads the settings, and says everything that is wrong with them at once.

A value comes from the environment if it is there (`RADERA_SMTP__HOST` is `host` in the table `smtp`; a
value that begins with `[` or `{` is JSON), else from the file, else from its default. Values in the
environment stay text until the model reads them, so an account number doesn't turn into a number on the
way.

An error names where the value came from, its key, what is wrong and how to mend it. It never repeats the
value, which may be a secret that was put in the wrong place.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.settings.meaning import meanings
from orchestrator.settings.sections import HOLDS_NOTHING, Settings, System, table_of
from schemas.messages import Token

PREFIX = "RADERA_"
DELIMITER = "__"

#: What a table of a system may hold beside its handler's own settings.
COMMON = frozenset(System.model_fields) - {"own"}


class ConfigError(Exception):
    """The settings can't be used. The text lists every problem, one on a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class _Source:
    """Where values came from, so that a problem can be found again."""

    file: Path
    variables: Mapping[tuple[str, ...], str]

    def problem(self, path: tuple[str, ...], wrong: str) -> str:
        """One line for the value at `path`."""
        for length in range(len(path), 0, -1):
            variable = self.variables.get(path[:length])
            if variable is not None:
                return f"environment: {variable}: {wrong}"
        return f"{self.file}: {'.'.join(path) or 'the file'}: {wrong}"


def load(
    path: Path, kinds: Mapping[str, type[BaseModel]], environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings in the file at `path`; `kinds` has each handler kind's own model. Raises ConfigError."""
    raw = _read(path)
    variables, problems = _overlay(raw, os.environ if environ is None else environ)
    source = _Source(path, variables)
    problems += _control_characters(source, raw)
    problems += _systems(source, raw, kinds)
    for name, field in Settings.model_fields.items():
        if not field.is_required() and field.default is not None:
            raw.setdefault(name, {})  # so that a default path is found beside the file as well
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(raw, context={"base": path.resolve().parent})
    except ValidationError as error:
        problems += [_explain(source, Settings, detail) for detail in error.errors()]
    if problems or settings is None:
        raise ConfigError(sorted(set(problems)))
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            [f"{path}: there is no such file; copy one of deploy/examples and fit it to your systems"]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: can't be read ({type(error).__name__}); see to its rights"]) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Its text has a position and at most one character of the file.
        raise ConfigError([f"{path}: not valid TOML: {error}"]) from None
    except (ValueError, RecursionError):
        raise ConfigError(
            [f"{path}: has a number too long, or nests too deep, to be read; mend it"]
        ) from None


def _overlay(raw: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[tuple[str, ...], str], list[str]]:
    """Lays the environment over `raw`; returns which variable set what, and what was wrong with them."""
    variables: dict[tuple[str, ...], str] = {}
    problems: list[str] = []
    for variable in sorted(environ):
        # RADERA_X without a delimiter is no setting: such names are free for secrets that settings refer to.
        if not variable.startswith(PREFIX) or DELIMITER not in variable:
            continue
        path = tuple(variable.removeprefix(PREFIX).lower().split(DELIMITER))
        if path[0] not in Settings.model_fields or not all(path):
            problems.append(f"environment: {variable}: there is no such setting; unset it")
            continue
        value: Any = environ[variable]
        if value.startswith(("[", "{")):
            try:
                value = json.loads(value)
            except ValueError:
                problems.append(f"environment: {variable}: not valid JSON; mend the quoting")
                continue
        table: Any = raw
        for key in path[:-1]:
            table = table.setdefault(key, {}) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            problems.append(f"environment: {variable}: lies within a value that is no table; unset it")
            continue
        table[path[-1]] = value
        variables[path] = variable
    return variables, problems


def _control_characters(source: _Source, value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """No text may hold a control character: names and addresses become headers of mails and lines of logs."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not key.isprintable():
                yield source.problem(path, "has a key with a control character in it; take it out")
            else:
                yield from _control_characters(source, inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from _control_characters(source, inner, path)
    elif isinstance(value, str) and any(ord(character) < 32 or ord(character) == 127 for character in value):
        yield source.problem(path, "has a control character or a line break in it; take it out")


def _systems(source: _Source, raw: dict[str, Any], kinds: Mapping[str, type[BaseModel]]) -> list[str]:
    """Gives every system its handler's own settings, and checks what no single table can."""
    systems = raw.get("systems")
    if not isinstance(systems, dict) or not systems:
        raw.pop("systems", None)  # so that the model says that it is missing
        return []
    problems: list[str] = []
    for name, table in systems.items():
        if not isinstance(table, dict):
            continue
        kind = table.get("kind")
        own = {key: value for key, value in table.items() if key not in COMMON}
        systems[name] = {key: value for key, value in table.items() if key in COMMON}
        if kind == HOLDS_NOTHING:
            problems += [
                source.problem(("systems", name, key), "means nothing here; remove it") for key in own
            ]
        elif isinstance(kind, str) and kind not in kinds:
            known = ", ".join(sorted([*kinds, HOLDS_NOTHING]))
            problems.append(
                source.problem(("systems", name, "kind"), f"there is no such kind; use one of {known}")
            )
        elif isinstance(kind, str):
            try:
                systems[name]["own"] = kinds[kind].model_validate(own)
            except ValidationError as error:
                problems += [
                    _explain(source, kinds[kind], detail, ("systems", name)) for detail in error.errors()
                ]
    return problems + _names(source, systems) + _order(source, systems)


def _names(source: _Source, systems: dict[str, Any]) -> list[str]:
    token = TypeAdapter(Token)
    problems = []
    for name in list(systems):
        try:
            token.validate_python(name)
        except ValidationError:
            del systems[name]  # said once, in words, rather than again by the model
            problems.append(
                source.problem(
                    ("systems", name),
                    "not a name that messages can carry; use lower-case letters, digits, '_', '-' and '.'",
                )
            )
    return problems


def _order(source: _Source, systems: dict[str, Any]) -> list[str]:
    problems = []
    graph: dict[str, list[str]] = {}
    for name, table in systems.items():
        after = table.get("after", []) if isinstance(table, dict) else []
        graph[name] = [other for other in after if isinstance(other, str)] if isinstance(after, list) else []
        for other in graph[name]:
            if other not in systems:
                near = difflib.get_close_matches(other, systems, n=1)
                mend = f"did you mean {near[0]}?" if near else "name a table under [systems]"
                problems.append(
                    source.problem(("systems", name, "after"), f"there is no system {other}; {mend}")
                )
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        ring = " after ".join(reversed(error.args[1]))
        problems.append(
            source.problem(("systems", error.args[1][0], "after"), f"goes in a circle ({ring}); break it")
        )
    return problems


def _explain(source: _Source, model: type[BaseModel], detail: ErrorDetails, at: tuple[str, ...] = ()) -> str:
    """A pydantic error in the form of ours."""
    path = (*at, *(str(part) for part in detail["loc"]))
    text = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "missing":
        what = _described(model, detail["loc"])
        return source.problem(path, f"missing; add it{f' ({what})' if what else ''}")
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _keys(model, detail["loc"]), n=1)
        return source.problem(
            path, f"there is no such key; {f'did you mean {near[0]}?' if near else 'remove it'}"
        )
    if detail["type"] == "value_error":
        # A check over several keys names the one it means first: "cap: shorter than first; ...".
        key, colon, rest = text.partition(": ")
        if colon and key in _keys(model, (*detail["loc"], "")):
            return source.problem((*path, key), rest)
        return source.problem(path, text)
    return source.problem(path, f"{text[:1].lower()}{text[1:]}; mend the value")


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model that the last part of `location` is a key of."""
    current: Any = model
    for part in location[:-1]:
        if current is Settings and part == "systems":
            current = dict
        elif current is dict:
            current = System
        elif isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            annotation = current.model_fields[str(part)].annotation
            current = table_of(annotation) or annotation
        else:
            return None
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    found = _model_at(model, location)
    return [name for name in found.model_fields if name != "own"] if found else []


def _described(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    found = _model_at(model, location)
    return meanings(found).get(str(location[-1]), "").split(". ")[0].rstrip(".") if found else ""
