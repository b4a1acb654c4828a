"""Killed fifty times, and nothing is lost and nothing is done twice."""

import hashlib
import random
import time
from collections import Counter, defaultdict
from typing import Any
from uuid import UUID

import pytest

from orchestrator.cli.submit import identifier_of
from orchestrator.privacy import clean
from orchestrator.smtp import message_id
from tests.integration.people import Effect, Person, make_people
from tests.integration.settings import DOMAIN, DPO, NORD
from tests.integration.world import SAID, World

TENANT = "tenant_byggab"
SYSTEMS = {
    "superoffice": "superoffice",
    "hubspot": "hubspot",
    "google": "web_analytics",
    "tenant-api": TENANT,
    "controllers": TENANT,
}
KILLS = 25
REQUESTS = 25

FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "429", "vendor": "hubspot", "retry_after": 1, "skip": 10, "times": 3},
    {"kind": "503", "vendor": "hubspot", "skip": 40, "times": 2},
    {"kind": "lost_response", "vendor": "hubspot", "path": "gdpr-delete", "skip": 2, "times": 3},
    {"kind": "slow", "vendor": "hubspot", "seconds": 1.0, "after_effect": True, "skip": 20, "times": 8},
    {"kind": "500", "vendor": "superoffice", "skip": 15, "times": 3},
    {"kind": "lost_response", "vendor": "superoffice", "method": "DELETE", "skip": 4, "times": 4},
    {"kind": "malformed", "vendor": "superoffice", "method": "GET", "skip": 30, "times": 2},
    {"kind": "slow", "vendor": "superoffice", "seconds": 0.7, "skip": 12, "times": 8},
    {"kind": "lost_response", "vendor": "google", "path": "submitUserDeletion", "skip": 2, "times": 3},
    {"kind": "429", "vendor": "google", "retry_after": 1, "skip": 6, "times": 2},
    {"kind": "lost_response", "vendor": "tenant-api", "path": "erase", "skip": 1, "times": 3},
    {"kind": "500", "vendor": "controllers", "skip": 1, "times": 3},
    {"kind": "lost_response", "vendor": "controllers", "skip": 3, "times": 3},
    {"kind": "451", "vendor": "mail", "skip": 5, "times": 4},
    {"kind": "reset", "vendor": "mail", "skip": 12, "times": 2},
    {"kind": "lost_response", "vendor": "mail", "skip": 16, "times": 4},
)


@pytest.mark.parametrize("part", [1, 2])
@pytest.mark.timeout(480)
def test_killed_at_any_moment(world: World, part: int) -> None:
    """Twenty-five SIGKILLs, and as many again, while requests are carried out at vendors who fail in every
    way: each request ends as it should, each effect happens once, each outcome is mailed once, and no record
    of it is broken.
    """
    rng = random.Random(f"{world.seed}/{part}")
    world.settle_bystanders(rng, 5)
    world.settle(make_people(rng, REQUESTS))
    for fault in FAULTS:
        world.vendors.fault(**fault)
    waiting = list(world.people)

    kills = _kill_again_and_again(world, rng, waiting)
    world.radera.start()
    world.await_end(240.0)
    world.await_mails(30.0)
    world.radera.stop()

    _check_ends(world)
    _check_effects(world, kills)
    _check_outcomes(world, kills)
    world.check_records()


def _kill_again_and_again(world: World, rng: random.Random, waiting: list[Person]) -> list[int]:
    """Starts and kills; submits as it goes, also while nobody is there. Gives the moments, in micros."""
    kills: list[int] = []
    for number in range(KILLS):
        # The requests come over the first two thirds of the lives.
        due = REQUESTS * min(1.0, (number + 1) / (KILLS * 2 / 3))
        while len(world.people) - len(waiting) < due and waiting:
            world.submit(waiting.pop(0))
        world.radera.spawn()
        if rng.random() < 0.25:
            pause = rng.uniform(0.05, 1.2)
            when = f"{pause:.2f} s after its start"
        else:
            world.radera.await_ready()
            pause = min(2.0, 0.05 + rng.expovariate(1.5))
            when = f"{pause:.2f} s after it was ready"
        time.sleep(pause)
        world.radera.kill()
        kills.append(time.time_ns() // 1000)
        world.note(f"killed {when}; {len(world.open_people())} requests open")
    assert not waiting
    return kills


def _check_ends(world: World) -> None:
    """Every request is completed, each step with the end that the person's records call for."""
    for person in world.people:
        saga = world.saga(person)
        assert saga is not None
        ends = {step.system: getattr(step.state, "end", step.state.status) for step in saga.steps}
        assert ("completed", person.ends) == (saga.status, ends), person.request_id
        assert () == saga.escalations


def _check_effects(world: World, kills: list[int]) -> None:
    """The vendors did what had to be done, once; what was asked again had a reason, and changed nothing.
    Nobody else was touched.
    """
    world.check_effects()
    # A controller is asked once and told once about each of its people.
    asked = {asked_as(person) for person in world.people if TENANT in person.scope}
    once = {(kind, id_): 1 for kind in ("request_received", "confirmation_received") for id_ in asked}
    told = {
        (kind, id_): n for (vendor, kind, id_), n in world.first_effects().items() if vendor == "controllers"
    }
    assert once == told
    world.check_nobody_is_held()

    first: dict[Effect, int] = {}
    for line in world.vendors.ledger():
        effect = (line["vendor"], line["effect"], str(line["record"]))
        first.setdefault(effect, line["at"])
        if line["repeated"] and not line["effect"].startswith(SAID):
            _check_repeat(world, effect, first[effect], line["at"], kills)


def _check_repeat(world: World, effect: Effect, first: int, at: int, kills: list[int]) -> None:
    """A repeat has its reason: a retry that the request's timeline tells of, or a death since its command was
    sent. Before the effect, since what dies with a record published may publish it again, and both copies are
    carried out.
    """
    vendor, _, record = effect
    if vendor == "controllers":
        whose = next((person for person in world.people if asked_as(person) == record), None)
    else:
        whose = next((person for person in world.people if effect in person.effects), None)
    assert whose is not None, effect
    sent = max(_commands(world, whose, SYSTEMS[vendor], first), default=first)
    if any(sent <= kill <= at for kill in kills):
        return
    assert _commands_before(world, whose, at) > 1, effect


def asked_as(person: Person) -> str:
    """The id under which the tenant's controller knows a request: made of it, so that it is asked once."""
    identifiers = clean([identifier_of(kind, value) for kind, value in person.identifiers]).identifiers
    hashed = hashlib.sha256(f"{person.request_id}\0{TENANT}\0".encode() + identifiers.to_bytes())
    return str(UUID(bytes=hashed.digest()[:16], version=4))


def _commands(world: World, person: Person, system: str, until: int) -> list[int]:
    """When the system was sent commands about the person, until then."""
    entries = world.ground.store.timeline(person.request_id)
    sent = [one.at for one in entries if one.action == "command_sent" and one.data["system"] == system]
    return [at for at in sent if at <= until]


def _commands_before(world: World, person: Person, at: int) -> int:
    """The most commands of one system and verb that were sent for the person by then."""
    sent = Counter(
        (entry.data["system"], entry.data["verb"])
        for entry in world.ground.store.timeline(person.request_id)
        if entry.action == "command_sent" and entry.at <= at
    )
    return max(sent.values(), default=0)


def _check_outcomes(world: World, kills: list[int]) -> None:
    """One completion for each request, each outcome one mail; a mail that came twice is the same mail, and
    there was a death or a lost answer between.
    """
    outcomes = world.outcomes()
    completions = Counter(outcome.request_id for outcome in outcomes if outcome.kind == "completed")
    assert {person.request_id: 1 for person in world.people} == dict(completions)
    unwelcome = Counter(one.kind for one in outcomes) - Counter(
        {"completed": 10**6, "acted": 10**6, "notice": 10**6}
    )
    assert Counter() == unwelcome

    seen: dict[str, list[bytes]] = defaultdict(list)
    for mail, data in zip(world.mails(), world.vendors.mails(), strict=True):
        seen[str(mail["message-id"])].append(data)
    repeated = {message: copies for message, copies in seen.items() if len(copies) > 1}
    lost = sum(fault["times"] for fault in FAULTS if fault["kind"] == "lost_response")
    assert len(repeated) <= len(kills) + lost
    by_event = {message_id(DOMAIN, one.request_id, one.event_id): one for one in outcomes}
    unknown = {message for message in seen if message not in by_event}
    to = {str(mail["to"]) for mail in world.mails() if str(mail["message-id"]) in unknown}
    assert to <= {NORD}
    for outcome in outcomes:
        copies = seen[message_id(DOMAIN, outcome.request_id, outcome.event_id)]
        assert copies, (outcome.kind, outcome.request_id)
        assert len({_text_of(data) for data in copies}) == 1
    dpo = [mail for mail in world.mails() if str(mail["to"]) == DPO]
    assert len({str(mail["message-id"]) for mail in dpo}) == sum(one.kind != "notice" for one in outcomes)


def _text_of(data: bytes) -> bytes:
    """The mail without its Date, which is of the moment of sending."""
    head, _, body = data.partition(b"\r\n\r\n")
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Date:")) + body
