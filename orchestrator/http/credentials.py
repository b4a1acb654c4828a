"""What vouches for the calls of one account, renewed once for all who need it.

* It is renewed only while what was refused is still what counts. Of fifty commands whose token was revoked
  the first logs in, and the others go on with what it got.
* What was just got and is refused before anything took it is not renewed again, nor is a login that was
  refused repeated, for a while: it is for a person to mend, and an account may be locked for too many.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import anyio

from orchestrator.http.errors import Permanent

SECOND: Final = 1_000_000
#: For how long a refusal is remembered, in micros.
PATIENCE: Final = 30 * SECOND


class Authority(Protocol):
    """Who vouches for our calls: returns the headers, and can renew them when they are refused."""

    async def headers(self) -> Mapping[str, str]: ...

    async def renew(self) -> bool:
        """Fetch fresh credentials; False if there is no way to."""
        ...


class StaticAuthority:
    """A fixed secret, read for each call, so that a rotated file counts at once."""

    def __init__(self, headers: Callable[[], Mapping[str, str]]) -> None:
        self._headers = headers

    async def headers(self) -> Mapping[str, str]:
        return self._headers()

    async def renew(self) -> bool:
        return False


class Credentials:
    """An authority, asked by one call at a time."""

    def __init__(self, authority: Authority, steady: Callable[[], int]) -> None:
        self._authority = authority
        self._steady = steady
        self._lock = anyio.Lock(fast_acquire=True)
        self._untried: Mapping[str, str] | None = None
        self._refusal: tuple[str, int] | None = None

    async def headers(self) -> Mapping[str, str]:
        """Return what vouches for the next call. Raises Permanent."""
        async with self._lock:
            return await self._current()

    async def renew(self, refused: Mapping[str, str]) -> None:
        """Have something else vouch than what was refused. Raises Permanent where nothing can."""
        async with self._lock:
            if await self._current() != refused:
                return
            if refused == self._untried:
                self._untried = None
                raise self._remembered(Permanent("credentials_refused"))
            try:
                renewed = await self._authority.renew()
                self._untried = await self._authority.headers()
            except Permanent as error:
                raise self._remembered(error) from None
            if not renewed:
                self._untried = None
                raise Permanent("credentials_refused")

    def took(self, vouched: Mapping[str, str]) -> None:
        """Hear that the other side took what vouched for a call."""
        if vouched == self._untried:
            self._untried = None

    async def _current(self) -> Mapping[str, str]:
        if self._refusal is not None:
            code, until = self._refusal
            if self._steady() < until:
                raise Permanent(code)
            self._refusal = None
        try:
            return await self._authority.headers()
        except Permanent as error:
            raise self._remembered(error) from None

    def _remembered(self, error: Permanent) -> Permanent:
        self._refusal = error.code, self._steady() + PATIENCE
        return error
