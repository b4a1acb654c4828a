"""What a handler is made of, and how one is found.

A handler is a class with a `kind`, a `Settings` model and the four verbs. The built-in ones and those that
a third party ships are found in the same way, by the entry-point group `radera.handlers`; the built-in ones
are known without an installation, too.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from anyio import to_thread
from pydantic import BaseModel

from handlers.checking import Finding
from handlers.places import DeclaredPlace
from handlers.port import CallbackBody, Clock, Task
from handlers.results import Received, Result
from orchestrator.http import Clients
from orchestrator.privacy import PartyLinks
from orchestrator.settings.values import Section
from orchestrator.smtp import Mailer

T = TypeVar("T")

GROUP = "radera.handlers"
_BUILT_IN = {
    "superoffice": "handlers.superoffice:SuperOffice",
    "hubspot": "handlers.hubspot:HubSpot",
    "google_analytics": "handlers.google_analytics:GoogleAnalytics",
    "recruitment": "handlers.recruitment:Recruitment",
    "tenant": "handlers.tenant:Tenant",
}


class HandlerSettings(Section):
    """The part of a system's table that is its handler's own: immutable, strict, and silent about what
    it was given.
    """


async def in_thread(function: Callable[..., None], *args: Any) -> None:
    """Run what blocks in a thread of its own; given up, not waited for, when the verb's time is over."""
    await to_thread.run_sync(lambda: function(*args), abandon_on_cancel=True)


def _no_correlations(space: str, reference: str) -> str:
    raise TypeError(f"nothing to make the correlation of {space} with: give the context `correlate`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the composition root gives a handler."""

    system: str
    clock: Clock
    clients: Clients
    kin: Mapping[str, BaseModel] = field(default_factory=dict, repr=False)
    """The own settings of the other configured systems of this kind, by their names."""
    public_url: str = ""
    """The address under which parties reach this installation, without a slash at its end."""
    answer_path: str = "/answer/"
    """Where, below it, the page is that an agency's link leads to."""
    callback_path: str = "/callbacks/tenant/"
    """Where, below it, controllers and agencies call back."""
    time_zone: str = "UTC"
    """The installation's time zone, for where a vendor's isn't known."""
    controller: str = ""
    """The installation's name, as a party knows it."""
    domain: str = "localhost"
    """The domain of the Message-IDs."""
    sender: str = ""
    """The address that our mail comes from."""
    links: PartyLinks | None = field(default=None, repr=False)
    """Makes and reads the tokens in parties' links."""
    correlate: Callable[[str, str], str] = field(default=_no_correlations, repr=False)
    """(space, reference) to the keyed hash by which the store finds the step that a callback is about."""
    mailer: Mailer | None = field(default=None, repr=False)
    run_blocking: Callable[..., Awaitable[None]] = field(default=in_thread, repr=False)
    """How the mailer is called, which blocks; a simulation calls it directly."""


class Handler(Protocol):
    """One kind of system. Verbs raise `Retryable`, `Permanent` or `Expired`; `receive` raises `Refused`,
    too. `places` are all that the handler knows of; each answer to `locate` or `prove` reports every one.
    """

    kind: ClassVar[str]
    Settings: ClassVar[type[BaseModel]]
    places: ClassVar[tuple[DeclaredPlace, ...]]

    def __init__(self, settings: Any, context: Context) -> None: ...

    async def locate(self, task: Task) -> Result: ...

    async def erase(self, task: Task) -> Result: ...

    async def prove(self, task: Task) -> Result: ...

    async def receive(self, callback: CallbackBody) -> "Received | tuple[Received, ...]": ...


@runtime_checkable
class Checkable(Protocol):
    """A handler that can say whether its system could be erased from, without touching anybody's data."""

    async def check(self) -> tuple[Finding, ...]: ...


class _OfEachKind(Mapping[str, T]):
    """Something of each installed handler class, by kind. A class is loaded when it is asked for: most
    installations have few of the kinds, and every command reads the settings.
    """

    def __init__(self, of: Callable[[type[Handler]], T]) -> None:
        self._of = of

    @cached_property
    def _others(self) -> Mapping[str, EntryPoint]:
        """The entry points of the kinds that are not built in."""
        return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in _BUILT_IN}

    def __getitem__(self, kind: str) -> T:
        path = _BUILT_IN.get(kind)
        if path is None:
            handler: type[Handler] = self._others[kind].load()
            return self._of(handler)
        module, _, name = path.partition(":")
        return self._of(getattr(import_module(module), name))

    def __iter__(self) -> Iterator[str]:
        return iter((*_BUILT_IN, *self._others))

    def __len__(self) -> int:
        return len(_BUILT_IN) + len(self._others)


def find() -> Mapping[str, type[Handler]]:
    """The handler classes that are installed, by kind."""
    return _OfEachKind(lambda handler: handler)


def settings_models() -> Mapping[str, type[BaseModel]]:
    """Each kind's own settings, for the loader of the settings file."""
    return _OfEachKind(lambda handler: handler.Settings)


def declared_places() -> Mapping[str, tuple[DeclaredPlace, ...]]:
    """Return the places that each kind of system declares, for whoever has to name them.

    A handler of somebody else's may be older than the places, and then declares none.
    """
    return {kind: getattr(handler, "places", ()) for kind, handler in find().items()}
