"""Stopped by a signal, with work in flight, at any moment: soon, cleanly, and nothing is lost."""

import random
import signal
import socket
import time
from collections import Counter

import pytest

from orchestrator.saga.model import Erasing
from schemas import topics
from schemas.codec import decode
from schemas.messages import Command
from tests.integration.people import Person, make_people
from tests.integration.processes import command, eventually
from tests.integration.settings import NORD
from tests.integration.world import World

SOON = 10.0
#: What a service manager sees of a process that died of the signal before it could hear it.
UNHEARD = -signal.SIGTERM


@pytest.fixture
def person(world: World) -> Person:
    """Somebody whom HubSpot alone has to forget."""
    person = make_people(random.Random(world.seed), 1)[0]
    person.scope = person.held = ("hubspot",)
    world.settle([person])
    return person


def _stop(world: World, number: signal.Signals) -> float:
    """Sends the signal; gives how long the end took. It has to be a clean one."""
    began = time.monotonic()
    world.radera.signal(number)
    code = world.radera.wait(SOON + 20.0)
    took = time.monotonic() - began
    world.note(f"{number.name}: exit code {code} after {took:.1f} s")
    assert code == 0
    assert b"Traceback" not in world.radera.said()
    return took


def _erases(world: World, person: Person) -> bool:
    saga = world.saga(person)
    return saga is not None and isinstance(saga.steps[0].state, Erasing)


def _effects(world: World, person: Person) -> list[str]:
    """What was done about the person, repeats left out."""
    records = {record for _, _, record in person.effects}
    return [
        line["effect"]
        for line in world.vendors.ledger()
        if line["vendor"] == "hubspot" and line["record"] in records and not line["repeated"]
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_call_that_ends_soon_is_waited_for(world: World, person: Person, number: signal.Signals) -> None:
    """A vendor takes four seconds over an erasure. The stop waits for its answer, and after the restart the
    erasure is not asked for again.
    """
    world.vendors.fault("slow", vendor="hubspot", path="gdpr-delete", seconds=4.0, after_effect=True)
    world.radera.start()
    world.submit(person)
    eventually("the vendor was asked", lambda: "gdpr_deleted" in _effects(world, person), within=20)

    took = _stop(world, number)
    assert took < SOON
    world.radera.start()
    world.await_end(120)

    asked = [line for line in world.vendors.ledger() if line["effect"] == "gdpr_deleted"]
    saga = world.saga(person)
    assert saga is not None
    assert (1, "completed") == (len(asked), saga.status)
    assert "erase.repeated" not in saga.steps[0].evidence


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_call_that_lasts_is_given_back(world: World, person: Person, number: signal.Signals) -> None:
    """A vendor takes a minute over an erasure. The stop doesn't wait for it; after the restart it is asked
    again, and the request ends as if nothing had been.
    """
    world.vendors.fault("slow", vendor="hubspot", path="gdpr-delete", seconds=60.0)
    world.radera.start()
    world.submit(person)
    eventually("the erasure was sent", lambda: _erases(world, person), within=20)
    time.sleep(1.0)  # the call itself, after the reads before it

    took = _stop(world, number)
    assert took < SOON
    assert b"worker_gave_back" in world.radera.said()
    assert "gdpr_deleted" not in _effects(world, person)
    world.radera.start()
    world.await_end(120)
    world.await_mails(10)

    assert person.effects == {("hubspot", effect, record) for _, effect, record in person.effects}
    assert ["unsubscribed", "gdpr_deleted", "contact_purged"] == _settled(world, person)


def _settled(world: World, person: Person) -> list[str]:
    eventually("the vendor has purged", lambda: not world.vendors.holds(person.email), within=10)
    return _effects(world, person)


@pytest.mark.parametrize("system", ["hubspot", "agency_nord"])
def test_a_mail_server_that_hangs_holds_nobody_up(world: World, system: str) -> None:
    """The mail server hears a mail (the mailbox's own, or a handler's to an agency) and says nothing for a
    minute. The stop doesn't wait for it, and after the restart the mail is sent again, as the same mail.
    """
    person = make_people(random.Random(world.seed), 1)[0]
    person.scope = person.held = (system,)
    world.settle([person])
    world.vendors.fault("slow", vendor="mail", seconds=60.0)
    world.radera.start()
    world.submit(person)
    waiting = topics.OUTCOMES if system == "hubspot" else topics.commands("recruitment")
    eventually("a mail is due", lambda: _mail_is_due(world, waiting), within=20)
    time.sleep(1.0)

    assert _stop(world, signal.SIGTERM) < SOON
    world.radera.start()
    world.await_end(120)
    world.await_mails(10)

    ids = Counter(str(mail["message-id"]) for mail in world.mails() if str(mail["to"]) != NORD)
    assert {1} == set(ids.values())


def _mail_is_due(world: World, topic: str) -> bool:
    if topic == topics.OUTCOMES:
        return bool(world.outcomes())
    return any(decode(value, Command).verb == "erase" for *_, value in world.records(topic))


def test_stopped_while_starting(world: World, person: Person) -> None:
    """A signal at any moment of the start ends the process soon, and the next start finds all in order."""
    rng = random.Random(world.seed)
    world.submit(person)
    for _ in range(6):
        pause = rng.uniform(0.0, 2.5)
        world.radera.spawn()
        time.sleep(pause)
        world.radera.signal(signal.SIGTERM)
        code = world.radera.wait(SOON)
        world.note(f"SIGTERM {pause:.2f} s after the start: exit code {code}")
        assert code in (0, UNHEARD)
        assert b"Traceback" not in world.radera.said()

    world.radera.start()
    world.await_end(120)
    saga = world.saga(person)
    assert saga is not None
    assert "completed" == saga.status


def test_a_port_that_is_taken(world: World, person: Person) -> None:
    """Somebody else has the port: one clear line, exit code 1, and nothing was begun. Once it is free, the
    request is carried out.
    """
    world.submit(person)
    with socket.create_server(("127.0.0.1", world.http_port)):
        run = command(world.config, "up")

    assert (1, "") == (run.returncode, run.stdout)
    said = run.stderr.strip().splitlines()
    assert [f"radera: can't listen on 127.0.0.1 port {world.http_port}"] == [
        line.partition(" (")[0]
        for line in said
        if not line.startswith("{")  # the log
    ]
    assert world.saga(person) is None

    world.radera.start()
    world.await_end(120)
