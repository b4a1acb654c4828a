"""What a value of the settings may be, whichever section it stands in."""

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})+|localhost")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


def _domain(value: str) -> str:
    if len(value) > 253 or _DOMAIN.fullmatch(value) is None:
        raise ValueError("not a domain name; write it as in radera.example.com")
    return value.lower()


def _address(value: str) -> str:
    local, at, domain = value.rpartition("@")
    if not at or len(local) > 64 or _LOCAL_PART.fullmatch(local) is None or _DOMAIN.fullmatch(domain) is None:
        raise ValueError("not a mail address; write one plain address, as in dpo@example.com")
    return value


def _duration(value: object) -> object:
    if isinstance(value, timedelta) or (isinstance(value, str) and value.startswith("P")):
        return value
    raise ValueError(
        'not a duration; write it in ISO 8601, as in "P14D" for 14 days or "PT30S" for 30 seconds'
    )


def beside_the_file(value: Path, info: ValidationInfo) -> Path:
    """The path; one that is not absolute is looked for beside the settings file."""
    base = (info.context or {}).get("base")
    return value if base is None else Path(base) / value


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(
            'not the address of a site; write it as in "https://radera.example.com", with no path'
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(
            "answers would travel readable by anyone; use https (http is for this machine alone)"
        )
    return value.rstrip("/")


def is_loopback(host: str) -> bool:
    """True when `host` cannot be anything but this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError('no such time zone; use an IANA name, as in "Europe/Stockholm"') from None
    return value


Domain = Annotated[str, AfterValidator(_domain)]
Address = Annotated[str, AfterValidator(_address)]
Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0))]
Zone = Annotated[str, AfterValidator(_zone)]
Site = Annotated[str, AfterValidator(_url)]
Port = Annotated[int, Field(ge=1, le=65535)]
Line = Annotated[str, Field(min_length=1, max_length=200)]


class Section(BaseModel):
    """A table of the settings file; immutable, strict about its keys, and silent about what it was given."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=True,
    )
