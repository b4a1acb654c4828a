"""The reference of all settings, made from the models so that it can't go stale."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from orchestrator.secret import SecretRef
from orchestrator.settings.meaning import meanings
from orchestrator.settings.sections import Settings, System, table_of
from orchestrator.settings.values import Section


def reference(kinds: Mapping[str, type[BaseModel]]) -> str:
    """A Markdown section for each table, and for each handler kind's own part of a system's, a row for each
    key.
    """
    parts: list[str] = []
    for name, field in Settings.model_fields.items():
        table = System if name == "systems" else table_of(field.annotation)
        if table is not None:
            heading = "[systems.<name>]" if name == "systems" else f"[{name}]"
            parts.append("\n".join(_section(heading, table)))
            parts += [
                "\n".join(_section(f"[{name}.{key}]", inner))
                for key, one in table.model_fields.items()
                if (inner := table_of(one.annotation)) is not None and issubclass(inner, Section)
            ]
    parts.extend(
        "\n".join(_section(f'[systems.<name>] with kind = "{kind}"', kinds[kind])) for kind in sorted(kinds)
    )
    return "\n\n".join(parts) + "\n"


def _section(heading: str, table: type[BaseModel]) -> Iterator[str]:
    yield f"### `{heading}`\n"
    yield " ".join((table.__doc__ or "").strip().split("\n\n")[0].split()) + "\n"
    yield "| key | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    told = meanings(table)
    for name, field in table.model_fields.items():
        if name != "own":
            meaning = " ".join(told.get(name, "").split())
            yield f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {meaning} |"


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(f'`"{value}"`' for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type(inner) for inner in arguments if inner is not NoneType)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    names = {
        str: "text",
        int: "whole number",
        timedelta: "duration",
        Path: "path",
        bool: "true or false",
        float: "number",
    }
    if annotation is SecretRef:
        return "reference to a secret"
    return names.get(annotation, "table")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if field.default is None or field.default is PydanticUndefined:
        return ""
    plain = to_jsonable_python(field.default)
    return f"`{json.dumps(plain, ensure_ascii=False)}`"
