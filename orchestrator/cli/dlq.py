"""`radera dlq`: the records that nobody could read or apply, for the operator.

A dead letter is sealed to the installation and says in its headers where it came from and why it is here.
Its payload is never printed. `replay` opens it and publishes it to the topic it came from, with the headers
that it had and how often that was done, once what was wrong is mended; `discard` says that nothing is to be
done. Either way it is dealt with and no longer listed; the record itself goes with its topic's retention.
"""

from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.table import Column, Table

from orchestrator.bus.dead_letters import REPLAYED, headers_of_its_record
from orchestrator.bus.port import Headers, Record
from orchestrator.cli.assembly import Ground, open_ground, topics_of
from orchestrator.cli.report import iso
from orchestrator.privacy import GenerationForgotten, SealBroken
from orchestrator.service.dead_letters import DEAD_LETTER, DEALT_WITH, Letter, letter_topics, open_letters
from orchestrator.store import StoredSent
from schemas.topics import is_of_dead_letters, is_ours


def run_list(config: Path) -> int:
    """Prints the dead letters that nobody has dealt with."""
    table = Table(Column("dead letter", no_wrap=True), "code", "from", "at", "request", "replays")
    for letter in _open_letters(open_ground(config)):
        table.add_row(
            letter.name,
            letter.said("radera-code"),
            letter.origin,
            iso(letter.delivery.timestamp),
            letter.delivery.key,
            str(letter.attempt),
        )
    Console().print(table)
    return 0


def run_show(config: Path, name: str) -> int:
    """Prints all that is known of one, its payload's size but not the payload."""
    ground = open_ground(config)
    letter = _find(ground, name)
    if letter is None:
        return 1
    click.echo(f"dead letter  {letter.name}")
    click.echo(f"code         {letter.said('radera-code')}")
    click.echo(f"from         {letter.origin}")
    click.echo(f"at           {iso(letter.delivery.timestamp)}")
    click.echo(f"request      {letter.delivery.key or 'not known'}")
    click.echo(f"replays      {letter.attempt}")
    payload = _payload(ground, letter)
    click.echo(
        f"payload      {len(payload)} bytes" if payload is not None else "payload      can't be opened"
    )
    return 0


def run_replay(config: Path, name: str) -> int:
    """Publishes one to the topic it came from; 1 if it can't be opened."""
    ground = open_ground(config)
    letter = _find(ground, name)
    if letter is None:
        return 1
    payload = _payload(ground, letter)
    if payload is None:
        return _no("its master key is destroyed or is not this installation's; it can't be opened any more")
    target = letter.said("radera-topic")
    if not is_ours(target) or is_of_dead_letters(target):
        return _no(f"it came from a topic that nobody reads here: {target}")
    headers = (*_headers(ground, letter), (REPLAYED, str(letter.attempt + 1).encode()))
    ground.bus.publish([Record(topic=target, key=letter.delivery.key, value=payload, headers=headers)])
    StoredSent(ground.store, DEALT_WITH).record(letter.delivery.place)
    click.echo(f"replayed to {target}")
    if target not in topics_of(ground.settings):
        note = "no system of its kind is in the settings, so it waits there until one is"
        click.echo(f"radera: note: {note}, or until the topic's retention ends", err=True)
    return 0


def run_discard(config: Path, name: str) -> int:
    """Marks one as dealt with."""
    ground = open_ground(config)
    letter = _find(ground, name)
    if letter is None:
        return 1
    StoredSent(ground.store, DEALT_WITH).record(letter.delivery.place)
    click.echo(f"discarded {letter.name}")
    return 0


def _open_letters(ground: Ground) -> Iterator[Letter]:
    named = letter_topics(ground.bus, topics_of(ground.settings))
    return open_letters(ground.store, ground.bus, named)


def _find(ground: Ground, name: str) -> Letter | None:
    letter = next((one for one in _open_letters(ground) if one.name == name), None)
    if letter is None:
        _no(f"there is no open dead letter {name}; `radera dlq list` names them")
    return letter


def _payload(ground: Ground, letter: Letter) -> bytes | None:
    try:
        return _opened(ground, letter.delivery.value)
    except (SealBroken, GenerationForgotten):
        return None


def _headers(ground: Ground, letter: Letter) -> Headers:
    """Those that the record had; it can be read without them."""
    try:
        return headers_of_its_record(letter.delivery, lambda sealed: _opened(ground, sealed))
    except (SealBroken, GenerationForgotten, ValueError):
        return ()


def _opened(ground: Ground, sealed: bytes) -> bytes:
    return ground.keyring.unseal_installation(DEAD_LETTER, sealed)


def _no(text: str) -> int:
    click.echo(f"radera: {text}", err=True)
    return 1
