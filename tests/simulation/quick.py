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

#: Reading a private key checks that it is one, which takes longer than everything else in a world together.
_read_key = functools.cache(serialization.load_pem_private_key)
_read_public_key = functools.cache(serialization.load_pem_public_key)
_encoded = functools.lru_cache(4096)(idna.encode)
_decoded = functools.lru_cache(4096)(idna.decode)
_parsed: Callable[..., Any] = functools.lru_cache(4096)(httpx._urlparse.urlparse)
_parse_header = HeaderRegistry.__call__


@functools.lru_cache(4096)
def _header(registry: HeaderRegistry, name: str, value: Any) -> BaseHeader:
    return _parse_header(registry, name, value)


def _cookies_if_any(self: httpx.Cookies, response: httpx.Response) -> None:
    if "set-cookie" in response.headers or "set-cookie2" in response.headers:
        _extract_cookies(self, response)


_extract_cookies = httpx.Cookies.extract_cookies


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
    ):
        yield
