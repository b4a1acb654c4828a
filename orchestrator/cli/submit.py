"""`radera submit`: a request, from identifiers on the command line or on standard input."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click

from orchestrator.cli.assembly import Ground, open_ground, tenants_of
from orchestrator.cli.report import iso
from orchestrator.intake import CannotSubmit, Intake
from orchestrator.intake.outbox import Outbox
from orchestrator.intake.submit import new_request_id
from orchestrator.privacy import KINDS, Exchange, Identifier, Kind, clean
from orchestrator.saga.clocks import micros
from schemas.messages import Capacity, Language

FLAGS: tuple[Kind, ...] = (
    *("email", "phone", "name", "ga_client_id", "customer_id", "tenant_user_id"),
    "notice_to",
)
_MOST_LINES = 1000


def run(config: Path, options: Mapping[str, Any]) -> int:
    """Submits; 2 when the request can't be made of what was given."""
    typed: list[tuple[str, str]] = [(kind, value) for kind in FLAGS for value in options[kind]]
    try:
        if not typed and (sys.stdin is None or sys.stdin.isatty()):
            raise CannotSubmit("name the person: give identifiers by flag, or on standard input")
        if not typed:
            # With flags it is left alone: it may be the list that a loop of the shell is reading.
            typed += read_lines(_text(sys.stdin.buffer.read()).splitlines())
        identifiers = [identifier_of(kind, value) for kind, value in typed]
        ground = open_ground(config)
        others = _open_requests_of(ground, identifiers)
        request_id = options["request_id"] or new_request_id()
        if options["request_id"] is None:
            # Before anything is kept: whoever loses the answer can try again, and makes no second request.
            click.echo(
                f"radera: submitting; if you get no answer, try again with --id {request_id}", err=True
            )
        try:
            _submit(ground, identifiers, request_id, options)
        except CannotSubmit as error:
            if error.code != "request_ended":
                raise
            return _ended(ground, identifiers, request_id, options)
    except CannotSubmit as error:
        click.echo(f"radera: {error}", err=True)
        return 2
    return _said(request_id, others)


def _submit(
    ground: Ground, identifiers: Sequence[Identifier], request_id: str, options: Mapping[str, Any]
) -> None:
    submit_to(
        ground,
        identifiers,
        request_id=request_id,
        scope=options["scope"] or None,
        tenant=options["tenant"],
        capacity=options["capacity"],
        language=options["language"],
        verified=not options["unverified"],
        received_at=_received_at(options["received_at"]),
        source="cli",
    )


def _said(request_id: str, others: Sequence[str]) -> int:
    """Prints the id of what was submitted, and those of the person's other open requests."""
    click.echo(request_id)
    for other in others:
        if other != request_id:
            click.echo(f"radera: note: request {other} of the same person is open, too", err=True)
    return 0


def _ended(
    ground: Ground, identifiers: Sequence[Identifier], request_id: str, options: Mapping[str, Any]
) -> int:
    """Says what became of a request that has ended; 0 where the same was asked and it is completed."""
    saga = ground.store.saga(request_id)
    at = ground.store.ended_at(request_id)
    when = "before" if at is None else f"on {(iso(at) or '')[:10]}"
    asked = ground.digests.content(
        clean(identifiers, region=ground.settings.installation.country).identifiers,
        scope=options["scope"] or None,
        capacity=options["capacity"],
        tenant=options["tenant"],
    )
    if saga is None or not saga.content_digest:
        said = f"ended {when}; what it asked is not kept, so it was not compared; submit under a new id"
    elif saga.content_digest != asked:
        said = f"ended {when} and asked something else; submit under a new id"
    elif saga.status != "completed":
        said = f"was {saga.status} {when}; submit under a new id"
    else:
        click.echo(request_id)
        click.echo(f"radera: request {request_id} asked the same and is already completed, {when}", err=True)
        return 0
    click.echo(f"radera: request {request_id} {said}", err=True)
    return 2


def _open_requests_of(ground: Ground, identifiers: Sequence[Identifier]) -> list[str]:
    """Requests under way with the same identifiers, found by their keyed digest."""
    person = clean(identifiers, region=ground.settings.installation.country).identifiers
    if not person.items:
        return []
    with ground.store.begin() as transaction:
        known = transaction.of_subject(ground.digests.subject(person))
    return [saga.request_id for saga in known if not saga.is_finished]


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    raise CannotSubmit(f"line {line} of standard input is not UTF-8; write it again as text")


def read_lines(lines: Sequence[str]) -> list[tuple[str, str]]:
    """KIND=VALUE lines; empty ones and comments (#) are passed over. An error names the line, never its
    text.
    """
    found: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        kind, equals, value = line.partition("=")
        kind = kind.strip().replace("-", "_")
        if not equals or kind not in KINDS or not value.strip():
            known = ", ".join(one.replace("_", "-") for one in KINDS)
            raise CannotSubmit(f"line {number} of standard input is not KIND=VALUE; the kinds are: {known}")
        if len(found) >= _MOST_LINES:
            raise CannotSubmit("more identifiers than one person has; submit one person at a time")
        found.append((kind, value.strip()))
    return found


def identifier_of(kind: str, value: str) -> Identifier:
    """An identifier as typed; a Google id may name its site after an @."""
    if kind.startswith("ga_"):
        value, _, site = value.partition("@")
        return Identifier(cast(Kind, kind), value, site or None)
    return Identifier(cast(Kind, kind), value)


def submit_to(
    ground: Ground,
    identifiers: Sequence[Identifier],
    *,
    request_id: str | None = None,
    scope: Sequence[str] | None = None,
    tenant: str | None = None,
    capacity: Capacity = "controller",
    language: Language | None = None,
    verified: bool = True,
    received_at: int | None = None,
    source: str,
) -> str:
    """Submits a request to the installation; gives its id. Raises CannotSubmit."""
    settings = ground.settings
    intake = Intake(
        keys=ground.keys,
        bus=Outbox(ground.store),
        clock=ground.store.now,
        region=settings.installation.country,
        systems=settings.systems,
        tenants=tenants_of(settings),
        # The embedded bus lies in the database, and is put back with it: a key on it would be of use to a
        # thief alone.
        public_key=None if settings.kafka is None else Exchange(ground.keyring).public_key,
    )
    return intake.submit(
        identifiers,
        source=source,
        verified=verified,
        request_id=request_id,
        received_at=received_at,
        capacity=capacity,
        tenant=tenant,
        language=language or settings.installation.language,
        scope=None if scope is None else tuple(scope),
    )


def _received_at(given: datetime | None) -> int | None:
    if given is None:
        return None
    given = given if given.tzinfo is not None else given.replace(tzinfo=UTC)
    if given.year < 1970:
        raise CannotSubmit("the time of receipt lies before 1970; correct it")
    return micros(given)
