"""What a handler is made of, and how one is found.

A handler is a class with a `kind`, a `Settings` model and the four verbs. The built-in ones and those that
a third party ships are found in the same way, by the entry-point group `radera.handlers`; the built-in ones
are known without an installation, too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from handlers.port import CallbackBody, Clock, Task
from handlers.results import Received, Result
from orchestrator.http import Clients

GROUP = "radera.handlers"
_BUILT_IN = {
    "superoffice": "handlers.superoffice:SuperOffice",
    "hubspot": "handlers.hubspot:HubSpot",
    "google_analytics": "handlers.google_analytics:GoogleAnalytics",
    "recruitment": "handlers.recruitment:Recruitment",
    "tenant": "handlers.tenant:Tenant",
}


class HandlerSettings(BaseModel):
    """The part of a system's table that is its handler's own: immutable, strict, and silent about what
    it was given.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True
    )


class Mailer(Protocol):
    """Sends one mail, over TLS, or raises `Retryable` or `Permanent`. Sending the same Message-ID twice
    is harmless.
    """

    async def send(self, message: EmailMessage) -> None: ...


def _no_links(*_: str) -> str:
    raise TypeError("this handler needs the installation's keys for its links and correlations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the composition root gives every handler."""

    system: str
    clock: Clock
    clients: Clients
    public_url: str = ""
    """The address under which parties reach this installation."""
    controller: str = ""
    """The installation's name, as a party knows it."""
    domain: str = "localhost"
    """The domain of the Message-IDs."""
    link_token: Callable[[str, str], str] = field(default=_no_links, repr=False)
    """(request id, system) to the opaque token of the party's link; the same each time."""
    correlate: Callable[..., str] = field(default=_no_links, repr=False)
    """A keyed hash of the parts, by which the store finds the step that a callback is about."""
    mailer: Mailer | None = field(default=None, repr=False)


class Handler(Protocol):
    """One kind of system. Verbs raise `Retryable`, `Permanent` or `Expired`; `receive` raises `Refused`,
    too.
    """

    kind: ClassVar[str]
    Settings: ClassVar[type[BaseModel]]

    def __init__(self, settings: Any, context: Context) -> None: ...

    async def locate(self, task: Task) -> Result: ...

    async def erase(self, task: Task) -> Result: ...

    async def prove(self, task: Task) -> Result: ...

    async def receive(self, callback: CallbackBody) -> Received: ...


def find() -> Mapping[str, type[Handler]]:
    """The handler classes that are installed, by kind."""
    found: dict[str, type[Handler]] = {}
    for kind, path in _BUILT_IN.items():
        module, _, name = path.partition(":")
        found[kind] = getattr(import_module(module), name)
    for entry in entry_points(group=GROUP):
        if entry.name not in found:
            found[entry.name] = entry.load()
    return found


def settings_models() -> Mapping[str, type[BaseModel]]:
    """Each kind's own settings, for the loader of the settings file."""
    return {kind: handler.Settings for kind, handler in find().items()}
