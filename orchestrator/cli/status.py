"""`radera status` and `radera timeline`: what is known of a request, without touching it."""

import json
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from orchestrator.cli.assembly import load_settings, open_store, place_titles, store_of
from orchestrator.cli.report import iso, outcome_of, report
from orchestrator.mailbox import words
from orchestrator.mailbox.left import left_of
from orchestrator.mailbox.places import Looks
from orchestrator.saga import escalations
from orchestrator.saga.model import Saga
from orchestrator.service.outbound import system_outcome
from orchestrator.settings import Settings
from orchestrator.store import BrokenDocument, Store
from orchestrator.store.errors import NotAllowed
from schemas.messages import SystemOutcome

OPEN = ("awaiting_verification", "in_progress", "closing")


def run(config: Path, request_id: str | None, *, as_json: bool, everything: bool) -> int:
    """Prints one request, or a list; 1 if the request is not known, or one of the list can't be read."""
    settings = load_settings(config)
    store = store_of(settings, config)
    configured = settings.systems
    if request_id is not None:
        saga = known(store, request_id)
        if saga is None:
            return 1
        if as_json:
            click.echo(json.dumps(report(saga, store.now(), configured), indent=2))
        else:
            show(saga, _console(), store.now(), settings)
        return 0
    broken: list[str] = []
    sagas = store.sagas(None if everything else OPEN, also_waiting=True, limit=1000, broken=broken)
    for one in broken:
        click.echo(f"radera: {BrokenDocument(request_id=one)}", err=True)
    for unopened, since in sorted(_unopened(store).items()):
        click.echo(f"radera: {unopened}: accepted on {iso(since)}, not yet opened", err=True)
    if as_json:
        click.echo(json.dumps([report(saga, store.now(), configured) for saga in sagas], indent=2))
        return 1 if broken else 0
    table = Table(Column("request", no_wrap=True), "status", "outcome", "due", "ended", "questions")
    for saga in sagas:
        ended = sum(step.is_ended for step in saga.steps)
        questions = ", ".join(one.reason for one in saga.escalations)
        due = (iso(saga.due_at) or "")[:10]
        table.add_row(
            saga.request_id, saga.status, outcome_of(saga) or "", due, f"{ended}/{len(saga.steps)}", questions
        )
    _console().print(table)
    return 1 if broken else 0


def _unopened(store: Store) -> dict[str, int]:
    """Requests that were accepted and not opened, as far as this account may see them."""
    for in_outbox in (True, False):
        with suppress(NotAllowed):
            return store.unopened(in_outbox=in_outbox)
    return {}


def run_timeline(config: Path, request_id: str) -> int:
    """Prints the timeline; 1 if the request is unknown or the chain is broken."""
    store = open_store(config)
    if known(store, request_id) is None:
        return 1
    for entry in store.timeline(request_id):
        data = " ".join(f"{name}={value}" for name, value in sorted(entry.data.items()))
        # A reason that another client sent may have line breaks in it, and must not look like an entry.
        line = "".join(char if char.isprintable() else " " for char in f"{entry.action:<20} {data}")
        click.echo(f"{entry.seq:>4}  {iso(entry.at)}  {line}")
    check = store.verify_timeline(request_id)
    if not check.is_intact:
        click.echo(f"radera: the timeline was changed: entry {check.broken_at} does not fit", err=True)
        return 1
    click.echo(f"chain intact, {check.length} entries, head {check.head}")
    return 0


def show(saga: Saga, console: Console, now: int, settings: Settings) -> None:
    """One request, for a terminal: how each system stands, where it was looked in, and the decisions that
    would be applied now.
    """
    console.print(f"request   {saga.request_id}", highlight=False)
    console.print(f"status    {saga.status}", highlight=False)
    console.print(f"received  {iso(saga.received_at)}   due {iso(saga.due_at)}", highlight=False)
    if saga.received_or is not None:
        other = (
            f"or        {iso(saga.received_or)}   due {iso(saga.due_or)}: see the question receipt_in_doubt"
        )
        console.print(other, highlight=False)
    console.print(f"acted     {iso(saga.acted_at) or 'not yet'}", highlight=False)
    table = Table("system", "status", "grade", "found", "erased", "note")
    reached = [step.system for step in saga.steps]
    for step in saga.steps:
        line = system_outcome(step)
        note = escape(_note(line, reached))
        table.add_row(line.system, line.status, line.grade or "", str(line.found), str(line.erased), note)
    console.print(table)
    for step in saga.steps:
        for text in _places(system_outcome(step), settings):
            console.print(f"{step.system}: {text}", highlight=False, markup=False)
    for one in saga.escalations:
        meaning = escalations.REASONS[one.reason][1]
        where = f" [{one.system}]" if one.system else ""
        console.print(f"{one.id}@{one.version}{where} {one.reason}: {meaning}", highlight=False, markup=False)
        actions = ", ".join(escalations.offered(saga, one, now, settings.systems)) or "nothing yet"
        console.print(f"      decide: {actions}", highlight=False, markup=False)


def _places(line: SystemOutcome, settings: Settings) -> list[str]:
    """Where the system was looked in, by what, and where not: as the mails tell it."""
    told = list(Looks(line, settings, place_titles(), "en").told(words.LABEL["en"]))
    return told or ["it has not said where it looked"]


def _note(line: SystemOutcome, reached: Collection[str]) -> str:
    """What the other columns must not be read without."""
    left = left_of(line.evidence, reached)
    notes = [line.reason or line.legal_basis or ", ".join(line.missing)]
    if left.records:
        notes.append(f"left, not erased: {left.counted('en')}")
    notes += [f"kept, not erased: {one}" for one in left.reasoned("en")]
    if left.unsubmitted:
        notes.append(f"ids of no configured property: {left.unsubmitted}")
    if left.out_of_scope:
        notes.append(f"ids of properties out of scope: {left.out_of_scope}")
    return "; ".join(note for note in notes if note)


def _console() -> Console:
    """As wide as the terminal; where there is none, as wide as it takes."""
    return Console(width=None if sys.stdout.isatty() else 200)


def known(store: Store, request_id: str) -> Saga | None:
    """The request; where there is none, says so."""
    # What isn't printable isn't text, and no database takes it.
    saga = store.saga(request_id) if request_id.isprintable() else None
    if saga is None:
        click.echo(f"radera: there is no request {request_id}; `radera status --all` lists them", err=True)
    return saga
