"""Whether the secrets that the settings name are where the settings say."""

from collections.abc import Iterator

from pydantic import BaseModel

from orchestrator.secret import SecretRef, SecretUnavailable
from orchestrator.settings import Settings


def unavailable(settings: Settings) -> list[str]:
    """A line for each secret that can't be read now: its key, what is wrong and the mend."""
    problems = []
    for key, secret in _secrets("", settings):
        try:
            # As they are read at the start.
            secret.read(private=key.startswith("keys."))
        except SecretUnavailable as error:
            problems.append(f"{key}: {error}")
    return problems


def _secrets(key: str, value: object) -> Iterator[tuple[str, SecretRef]]:
    match value:
        case SecretRef():
            yield key, value
        case BaseModel():
            for name in type(value).model_fields:
                # A handler's own settings stand in the system's table, not in one of their own.
                inner = key if name == "own" else f"{key}.{name}".lstrip(".")
                yield from _secrets(inner, getattr(value, name))
        case dict():
            for name, one in value.items():
                yield from _secrets(f"{key}.{name}", one)
        case list() | tuple():
            for one in value:
                yield from _secrets(key, one)
        case _:
            return
