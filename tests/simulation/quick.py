"""What makes a schedule cheap, and takes nothing away from it.

Each of these gives the very answer that would otherwise be worked out anew: what is kept is the result of a
function of its arguments alone, and what is left out would have done nothing.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.headerregistry import BaseHeader, HeaderRegistry
from typing import Any
from unittest.mock import patch

import httpx
import idna
from cryptography.hazmat.primitives import serialization

from orchestrator.privacy import guard

#: Reading a private key checks that it is one, which takes longer than everything else in a world together.
_read_key = functools.cache(serialization.load_pem_private_key)
_read_public_key = functools.cache(serialization.load_pem_public_key)
_encoded = functools.lru_cache(4096)(idna.encode)
_decoded = functools.lru_cache(4096)(idna.decode)
_parsed: Callable[..., Any] = functools.lru_cache(4096)(httpx._urlparse.urlparse)
_parse_header = HeaderRegistry.__call__
_each_reading = guard._readings


@functools.lru_cache(4096)
def _readings(text: str) -> tuple[str, ...]:
    """What a text says, of which the mails and the evidence of a world repeat most."""
    return tuple(_each_reading(text))


@functools.lru_cache(4096)
def _header(registry: HeaderRegistry, name: str, value: Any) -> BaseHeader:
    return _parse_header(registry, name, value)


def _cookies_if_any(self: httpx.Cookies, response: httpx.Response) -> None:
    if "set-cookie" in response.headers or "set-cookie2" in response.headers:
        _extract_cookies(self, response)


_extract_cookies = httpx.Cookies.extract_cookies


async def _straight(self: httpx.AsyncClient, request: httpx.Request, **how: Any) -> httpx.Response:
    """Send what the product sends: it has no login of httpx, no hooks and no redirects."""
    response = await self._transport.handle_async_request(request)
    response.request = request
    response.default_encoding = self._default_encoding
    self.cookies.extract_cookies(response)
    return response


@contextmanager
def quick() -> Iterator[None]:
    """A schedule without what it would do twice."""
    with (
        patch.object(serialization, "load_pem_private_key", _read_key),
        patch.object(serialization, "load_pem_public_key", _read_public_key),
        patch.object(idna, "encode", _encoded),
        patch.object(idna, "decode", _decoded),
        patch.object(httpx._urls, "urlparse", _parsed),
        patch.object(HeaderRegistry, "__call__", _header),
        patch.object(httpx.Cookies, "extract_cookies", _cookies_if_any),
        patch.object(httpx.AsyncClient, "send", _straight),
        patch.object(guard, "_readings", _readings),
    ):
        yield
