"""Whether a system could be erased from, without touching anybody's data: what a handler's `check()` says.

* Five aspects, in the order in which one needs the other: somebody answers, our credentials are taken, the
  account is the pinned one, we have the rights, the control record is found.
* A look that passed says as much of what it needs. The first that fails ends the check; what comes after it
  was not looked at, and the answer says so instead of guessing.
* A failure names the settings where it is mended, and never what a vendor said, a secret or an address.
* What no look can show, because the vendor has nothing to ask, is "unknown" and no failure.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from handlers.places import PlaceUnreadable
from handlers.port import CallFailed, Permanent
from orchestrator.secret import SecretUnavailable

Aspect = Literal["reachable", "credentials", "account", "rights", "control"]
State = Literal["ok", "failed", "unknown"]
ORDER: Final[tuple[Aspect, ...]] = ("reachable", "credentials", "account", "rights", "control")

Look = Callable[[], Awaitable[object]]
"""Passes by returning, and may return a `Gap` or a `Note`; fails by raising what a verb would raise."""


class Gap(str):
    """Why something can't be shown."""

    __slots__ = ()


class Note(str):
    """What has to be said of what was shown."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was seen of one aspect. `settings` are keys of the system's table."""

    aspect: Aspect
    state: State
    code: str = ""
    text: str = ""
    settings: tuple[str, ...] = ()


#: A code of a failed call: which aspect it is really about, and what it means.
_CODES: Final[Mapping[str, tuple[Aspect, str]]] = {
    "unreachable": ("reachable", "nobody answers at the address"),
    "name_not_resolved": ("reachable", "the host has no address"),
    "resolver_silent": ("reachable", "no name server says in time which address the host has"),
    "resolver_busy": ("reachable", "no name server says in time which address the host has"),
    "timeout": ("reachable", "no answer in time"),
    "connection_lost": ("reachable", "the connection broke"),
    "unavailable": ("reachable", "it answers that it is away"),
    "vendor_error": ("reachable", "it answers with a fault of its own"),
    "rate_limited": ("reachable", "too many calls just now; check again later"),
    "daily_limit": ("reachable", "the day's calls are spent; check again tomorrow"),
    "malformed_answer": ("reachable", "it answers in a way that is not the vendor's"),
    "redirected": ("reachable", "the address sends us elsewhere; set the one that it names"),
    "http_404": ("reachable", "it answers, and knows no such resource"),
    "http_421": ("reachable", "the tenant does not live there"),
    "tenant_not_running": ("reachable", "the tenant is not running"),
    "address_invalid": ("reachable", "not an address"),
    "address_not_https": ("reachable", "not an https address"),
    "address_not_public": ("reachable", "the address is on a private network"),
    "host_not_allowed": ("reachable", "the host is not one of those allowed"),
    "credentials_refused": ("credentials", "refused: they are wrong, or lack the right to be used here"),
    "http_406": ("credentials", "the version of the API is refused"),
    "private_key_unusable": ("credentials", "not an RSA key (PEM)"),
    "service_account_key_unusable": ("credentials", "not a service account's key (JSON)"),
    "login_signature_invalid": ("credentials", "the answer to the login is signed with another key"),
    "login_certificate_unusable": ("credentials", "not a certificate or public key (PEM)"),
    "login_without_ticket": ("credentials", "the login gives no ticket"),
    "login_answer_expired": (
        "credentials",
        "the answer to the login is out of date: see to this machine's clock",
    ),
    "filter_not_honoured": ("reachable", "it answers about others than those who were asked for"),
    "wrong_account": ("account", "the credentials are another account's than the pinned one"),
    "control_record_not_found": ("control", "not found: it is missing, or people can't be seen"),
}


async def examine(
    looks: Sequence[tuple[Aspect, Look]],
    *,
    settings: Mapping[Aspect, tuple[str, ...]],
    gaps: Mapping[Aspect, str] | None = None,
) -> tuple[Finding, ...]:
    """Takes the looks in order. `gaps` says why an aspect without a look can't be shown."""
    findings: dict[Aspect, Finding] = {}
    for aspect, look in looks:
        try:
            shown = await look()
        except (CallFailed, SecretUnavailable) as error:
            failed = _failed(error, aspect, settings)
            for each in ORDER[: ORDER.index(failed.aspect)]:
                findings.setdefault(each, Finding(aspect=each, state="ok"))
            findings[failed.aspect] = failed
            for each in ORDER:
                findings.setdefault(each, Finding(aspect=each, state="unknown", text="not looked at"))
            return tuple(findings[each] for each in ORDER)
        for each in ("reachable", "credentials"):
            findings.setdefault(each, Finding(aspect=each, state="ok"))
        state: State = "unknown" if isinstance(shown, Gap) else "ok"
        text = str(shown) if isinstance(shown, Gap | Note) else ""
        findings[aspect] = Finding(aspect=aspect, state=state, text=text)
    for each in ORDER:
        why = (gaps or {}).get(each, "can't be shown")
        findings.setdefault(each, Finding(aspect=each, state="unknown", text=why))
    return tuple(findings[each] for each in ORDER)


def _failed(
    error: CallFailed | SecretUnavailable, aspect: Aspect, settings: Mapping[Aspect, tuple[str, ...]]
) -> Finding:
    if isinstance(error, SecretUnavailable):
        # Its text names the variable or the file, and the mend.
        return Finding(aspect="credentials", state="failed", code="secret_unavailable", text=str(error))
    about, text = _CODES.get(error.code, (aspect, "failed"))
    if isinstance(error, PlaceUnreadable):
        about, text = "rights", f"can't be read: {error.place}"
    if isinstance(error, MissingRights):
        text = f"missing: {', '.join(error.missing)}"
    named = settings.get(about, ())
    if isinstance(error, Misfit):
        text, named = error.text, error.settings or named
    return Finding(aspect=about, state="failed", code=error.code, text=text, settings=named)


class Misfit(Permanent):
    """The system and its settings don't fit each other; `text` says how, `settings` are those to look at."""

    def __init__(self, code: str, text: str, settings: tuple[str, ...] = ()) -> None:
        super().__init__(code)
        self.text = text
        self.settings = settings


class MissingRights(Permanent):
    """The credentials lack rights, which have names."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__("rights_missing")
        self.missing = tuple(missing)


def control_look(control_email: str | None, look: Look) -> list[tuple[Aspect, Look]]:
    """The look for the control record, where one is set."""
    return [("control", look)] if control_email else []


def control_gap(control_email: str | None) -> dict[Aspect, str]:
    """Why no control record is looked for, where none is set."""
    return (
        {} if control_email else {"control": "control_email is not set; absence rests on the account alone"}
    )
