"""Teamtailor's candidates, to look at: the API has no deletion.

A candidate that is read by its id answers 404 when it is gone. A list that answers 403 or 404 can't be read,
and is never empty. The body of the webhook beyond its signature is not confirmed by Teamtailor.
"""

import base64
import hmac
import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from handlers.addresses import all_writings, normal
from handlers.places import PlaceUnreadable
from handlers.port import CallbackBody, Control, Permanent, Refused, Retryable
from handlers.shown import Shown
from handlers.times import from_zoned
from orchestrator.http import Clients, Limits, StaticAuthority
from orchestrator.secret import SecretRef

CANDIDATES = "candidates"
PAGE = 30
MAX_PAGES = 1000


class Teamtailor:
    """One company's candidates."""

    def __init__(
        self,
        *,
        clients: Clients,
        url: str,
        token: SecretRef,
        company: str,
        api_version: str,
        calls_per_ten_seconds: int,
        control_email: str | None,
    ) -> None:
        self._company = company
        self._control_email = control_email
        self._client = clients.client(
            url,
            authority=StaticAuthority(lambda: {"Authorization": f"Token token={token.read()}"}),
            headers={"X-Api-Version": api_version, "Accept": "application/vnd.api+json"},
            limits=Limits(calls=calls_per_ten_seconds, per=timedelta(seconds=10)),
        )

    async def account(self) -> str:
        """The company that the key really is for; raises when it isn't the pinned one."""
        data = (await self._client.call("GET", "/v1/company")).object().get("data")
        if not isinstance(data, dict):
            raise Retryable("malformed_answer")
        answered = str(data.get("id") or "")
        Control.shown(pinned=self._company, answered=answered)
        return answered

    async def control(self) -> Control:
        """Shows that the key is the pinned company's and, where a control record is set, that candidates
        can be seen.
        """
        answered = await self.account()
        record_found: bool | None = None
        if self._control_email is not None:
            record_found = bool(await self.candidates([self._control_email]))
        return Control.shown(pinned=self._company, answered=answered, record_found=record_found)

    async def candidates(self, emails: Iterable[str]) -> list[Shown]:
        """The candidates with one of these addresses, through all pages."""
        found: dict[str, Shown] = {}
        for email in all_writings(emails):
            for number in range(1, MAX_PAGES + 1):
                params = {"filter[email]": email, "page[size]": str(PAGE), "page[number]": str(number)}
                answer = await self._client.call(
                    "GET", "/v1/candidates", params=params, accept=frozenset({403, 404})
                )
                if answer.status in (403, 404):
                    raise PlaceUnreadable(CANDIDATES)
                page = answer.object()
                for candidate in map(_candidate, _rows(page)):
                    # A filter that the server didn't honour would name other people.
                    if not candidate.carries(frozenset({normal(email)})):
                        raise Permanent("filter_not_honoured")
                    found[candidate.id] = candidate
                if not _has_next(page, number):
                    break
            else:
                raise Permanent("too_many_pages")
        return list(found.values())

    async def by_id(self, id_: str) -> Shown | None:
        """The candidate that answers to this id."""
        path = f"/v1/candidates/{quote(id_, safe='')}"
        answer = await self._client.call("GET", path, accept=frozenset({403, 404}))
        if answer.status == 403:
            raise PlaceUnreadable(CANDIDATES)
        if answer.status == 404:
            return None
        return _candidate(_rows({"data": [answer.object().get("data")]})[0])


def destroyed_candidate(callback: CallbackBody, secret: Callable[[], str], company: str) -> str:
    """The id of the candidate that a genuine `candidate.destroy` is about. Raises Refused.

    Whose it is comes first: that a company's secret is missing is no matter of another company's event.
    The signature covers its own time, which isn't compared with ours: a repeated event only makes us look
    again.
    """
    try:
        said = json.loads(callback.body)
        event, candidate, whose = said["event"], str(said["id"]), said.get("company")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("malformed") from None
    if whose is not None and str(whose) != company:
        raise Refused("wrong_account")
    parts = dict(part.strip().partition("=")[::2] for part in callback.header("TT-Signature").split(","))
    signed = parts.get("t", "").encode() + b"." + callback.body
    expected = base64.b64encode(hmac.digest(secret().encode(), signed, "sha256")).decode()
    if not hmac.compare_digest(expected.encode(), parts.get("v2", "").encode("utf-8", "replace")):
        raise Refused("signature_invalid")
    if event != "candidate.destroy":
        raise Refused("event_not_used")
    return candidate


def _candidate(row: dict[str, Any]) -> Shown:
    attributes = row.get("attributes") or {}
    email = str(attributes.get("email") or "")
    return Shown(
        kind="candidate",
        id=str(row["id"]),
        values=frozenset({normal(email)} if email else ()),
        created_at=from_zoned(attributes.get("created-at")),
    )


def _rows(page: dict[str, Any]) -> list[dict[str, Any]]:
    rows = page.get("data")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.get("id") for row in rows):
        raise Retryable("malformed_answer")
    return rows


def _has_next(page: dict[str, Any], number: int) -> bool:
    """Whether there is a page after this one; raises where it isn't the one that we would ask for."""
    links = page.get("links") or {}
    following = links.get("next") if isinstance(links, dict) else links
    # JSON:API writes a link as text, or as an object with the text in it.
    link = following.get("href") if isinstance(following, dict) else following
    if not following:
        return False
    if not isinstance(link, str):
        raise Retryable("malformed_answer")
    # The link is read for its number only, and never followed: it could lead our key elsewhere.
    asked = parse_qs(urlsplit(link).query).get("page[number]", [str(number + 1)])
    if asked[0] != str(number + 1):
        raise Retryable("malformed_answer")
    return True
