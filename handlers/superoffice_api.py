"""Calls to one SuperOffice tenant: wherever it lives now, with its times in UTC, and page by page.

* An archive, a list or a bin that answers 403 or 404 can't be read. That never counts as empty: it is
  `PlaceUnreadable`, by the place's name.
* Without `SO-TimeZone` a tenant's times are in its own zone and carry none, so every call asks for UTC and an
  offset.
* A link to the next page may be relative, have its host in another case, or name the default port. It must
  not lead our credentials elsewhere.

Not confirmed by SuperOffice: that `User/currentPrincipal` names the tenant by `DatabaseContextIdentifier`, by
which we tell whose credentials ours are.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit

import anyio

from handlers.places import PlaceUnreadable
from handlers.port import Control, Permanent, Retryable, Task
from handlers.registry import Context
from handlers.superoffice_login import SystemUser, Tenant, discover
from handlers.superoffice_settings import SuperOfficeSettings
from orchestrator.http import Answer, Client, Limits

MAX_PAGES: Final = 1000
REFUSED: Final = 403
GONE: Final = 404
MOVED: Final = 421
_UNREADABLE: Final = frozenset({REFUSED, GONE})
_IN_UTC: Final = {"SO-TimeZone": "UTC, includeTZOffset"}
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a list. `place` is what could not be read where it is refused."""

    place: str
    path: str
    params: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        """Return what may be said of it: the path and the columns, and no value."""
        column = self.params.get("$filter", "").partition(" ")[0]
        by = f" by {column}" if column else ""
        return f"{self.path}{by} ({self.params['$select']})"


class Api:
    """The tenant's API, for the one tenant that is pinned."""

    def __init__(self, settings: SuperOfficeSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._limits = Limits(calls=settings.calls_per_second, per=timedelta(seconds=1))
        self._account = f"superoffice/{settings.tenant}"
        self._door = context.clients.client(settings.url, limits=self._limits, account=self._account)
        self._user = SystemUser(
            login=self._door,
            clock=context.clock,
            context=settings.tenant,
            client_secret=settings.client_secret,
            system_user_token=settings.system_user_token,
            private_key=settings.private_key,
            login_certificate=settings.login_certificate,
        )
        self._tenant: Tenant | None = None
        self._client: Client | None = None
        self._moving = anyio.Lock()

    async def account(self) -> str:
        """Return the tenant that our credentials really speak for; raise when it isn't the pinned one."""
        principal = (await self.ask("GET", "User/currentPrincipal")).object()
        answered = str(principal.get("DatabaseContextIdentifier") or "")
        Control.shown(pinned=self._settings.tenant, answered=answered)
        return answered

    async def rows(self, query: Query) -> AsyncIterator[dict[str, Any]]:
        """Yield the rows of a query, through all its pages.

        Raises:
            PlaceUnreadable: the list is refused, or not there.
        """
        target: str = query.path
        params: Mapping[str, str] | None = query.params
        for _ in range(MAX_PAGES):
            answer = await self.ask("GET", target, params, accept=_UNREADABLE)
            if answer.status in _UNREADABLE:
                raise PlaceUnreadable(query.place)
            page = answer.object()
            rows = page.get("value")
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise Retryable("malformed_answer")
            for row in rows:
                yield row
            following = page.get("odata.nextLink")
            if not following:
                return
            target, params = self._same_place(query.path, following), None
        raise Permanent("too_many_pages")

    async def ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        permit: Task | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Answer:
        """Make one call; `permit` for one that takes something away, `accept` for what the caller reads."""
        client = await self._api()
        target = path if "://" in path else f"/v1/{path}"
        accept |= {MOVED}
        if permit is None:
            answer = await client.call(method, target, params=params, accept=accept)
        else:
            answer = await client.erase_call(permit, method, target, params=params, accept=accept)
        if answer.status == MOVED:
            self._tenant = None
            raise Retryable("tenant_moved")
        return answer

    async def _api(self) -> Client:
        async with self._moving:
            now = self._context.clock()
            if self._tenant is None or self._client is None or self._tenant.valid_until <= now:
                tenant = await discover(self._door, self._settings.tenant)
                Control.shown(pinned=self._settings.tenant, answered=tenant.context)
                if urlsplit(tenant.api).scheme != urlsplit(self._settings.url).scheme:
                    raise Permanent("address_not_https")
                if self._client is None or self._tenant is None or self._tenant.api != tenant.api:
                    self._client = self._context.clients.client(
                        tenant.api,
                        authority=self._user,
                        headers=_IN_UTC,
                        limits=self._limits,
                        account=self._account,
                    )
                self._tenant = tenant
            return self._client

    def _same_place(self, path: str, link: Any) -> str:
        """Return where the link in an answer from `path` leads, as an address below the tenant's own."""
        if self._tenant is None or not isinstance(link, str):
            raise Retryable("malformed_answer")
        try:
            own, led = urlsplit(self._tenant.api), urlsplit(urljoin(f"{self._tenant.api}/v1/{path}", link))
            elsewhere = _origin(own) != _origin(led)
        except ValueError:
            raise Retryable("malformed_answer") from None
        if elsewhere or led.username or ".." in led.path or not led.path.startswith(f"{own.path}/"):
            raise Retryable("malformed_answer")
        return f"{own.scheme}://{own.netloc}{led.path}{f'?{led.query}' if led.query else ''}"


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or _PORTS.get(url.scheme)
