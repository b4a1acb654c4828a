"""What each setting is for: the text below it in its class.

Pydantic would read the sources for them at every start of a process. They are wanted only for the reference,
and by who is told of a mistake.
"""

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


@cache
def meanings(model: type[BaseModel]) -> dict[str, str]:
    """The texts by the settings' names; a description that was given to a field as such goes first."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            found |= _written(one)
    given = {name: field.description for name, field in model.model_fields.items() if field.description}
    return found | given


def _written(model: type[BaseModel]) -> dict[str, str]:
    try:
        [written] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}  # it was made without a source
    found: dict[str, str] = {}
    for setting, text in pairwise(written.body if isinstance(written, ast.ClassDef) else ()):
        match setting, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                found[name] = inspect.cleandoc(said)
    return found
