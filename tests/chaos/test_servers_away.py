"""The broker or the database away for a while: seen, borne, and nothing is lost."""

import random
import time
from collections import defaultdict
from collections.abc import Callable
from email import message_from_bytes, policy

import httpx
import pytest

from handlers.sandbox.agencies import LINK
from orchestrator.bus.kafka_admin import opened_admin
from orchestrator.bus.port import BusUnavailable
from orchestrator.store import StoreError
from schemas import topics
from tests.chaos.installation import GROUPS, NORD, READ, Installation
from tests.chaos.people import AGENCY, Person, people, settle
from tests.integration.postgresql_server import connect
from tests.integration.processes import eventually

REQUESTS = 8


@pytest.mark.parametrize(
    "installation", [(('remind_after = "PT2M"', 'remind_after = "PT15S"'),)], indirect=True
)
@pytest.mark.timeout(480)
def test_the_broker_away(installation: Installation, seed: int) -> None:
    """The clocks go on, and what they send waits in the outbox; so does what comes in, requests and answers,
    and whoever brings it is told that we have it. Every process stays alive. When the broker is back, the
    outbox drains in order, and every request ends, each answer having counted once.
    """
    installation.outside.seed({"agencies": [{"name": "Nord", "address": NORD, "answer": None}]})
    *early, late = people(random.Random(seed), REQUESTS + 1)
    _begun(installation, early)
    eventually("parties were asked", lambda: _asked(installation) == REQUESTS, within=90)
    installation.node.kill()
    # Reminders come due, since nobody has answered.
    eventually("the outbox grows", lambda: _unsent(installation) >= REQUESTS, within=90)
    for process in installation.fleet.processes.values():
        assert 200 == process.probe("/healthz"), process.name
    with pytest.raises(BusUnavailable):
        installation.ground.bus.backlog("orchestrator", [topics.REQUESTS])
    links = _links(installation)
    assert REQUESTS == len(links)
    # None of it waits for the broker, which would take until publishing is given up.
    limit = installation.kafka.publish_limit.total_seconds()
    for link in links:
        answered = httpx.post(link, data={"answer": "erased"}, trust_env=False, timeout=limit)
        assert 200 == answered.status_code
    settle(installation, [late])
    began = time.monotonic()
    assert installation.submit(late)
    assert time.monotonic() - began < limit
    waiting = _waiting(installation)
    assert REQUESTS <= sum(map(len, waiting.values()))
    installation.outside.seed({"agencies": [{"name": "Nord", "address": NORD, "answer": "erased"}]})
    installation.node.start()
    installation.people.append(late)

    _all_end(installation)
    eventually("the outbox is empty", lambda: _unsent(installation) == 0, within=30)
    sent = _first_sent(installation)
    assert waiting == {place: [one for one in sent[place] if one in ids] for place, ids in waiting.items()}
    assert {1} == {_answers(installation, person.request_id) for person in installation.people}


@pytest.mark.timeout(480)
def test_the_database_away(installation: Installation, seed: int) -> None:
    """Nothing is committed to Kafka, and nothing new is said there; every process is alive and not ready,
    and recovers by itself.
    """
    _begun(installation, people(random.Random(seed), REQUESTS))
    eventually(
        "it is under way", lambda: any(one.ledger() for one in installation.vendors.values()), within=60
    )
    processes = {one.running.pid: one for one in installation.fleet.processes.values() if one.running}
    installation.database.stop()
    # What was in hand just then may still come out.
    time.sleep(2.0)
    before = _kafka(installation)
    for process in processes.values():
        eventually("it is not ready", lambda one=process: one.probe("/readyz") == 503, within=20)  # type: ignore[misc] # a loop's variable, bound at once
        assert 200 == process.probe("/healthz"), process.name
    time.sleep(4.0)
    assert before == _kafka(installation)
    installation.database.start()

    for process in processes.values():
        eventually("it is ready again", _ready(process.probe), within=40)
    _all_end(installation)
    assert set(processes) == {one.running.pid for one in installation.fleet.processes.values() if one.running}


def _begun(installation: Installation, crowd: list[Person]) -> None:
    installation.start_few()
    installation.people = crowd
    settle(installation, installation.people)
    for person in installation.people:
        assert installation.submit(person)


def _all_end(installation: Installation) -> None:
    installation.await_end(240)
    sagas = installation.sagas()
    for person in installation.people:
        saga = sagas[person.request_id]
        ends = {step.system: getattr(step.state, "end", step.state.status) for step in saga.steps}
        assert ("completed", person.ends) == (saga.status, ends)
    for system, vendor in installation.vendors.items():
        done = sorted(record for record, _, repeated in vendor.ledger() if not repeated)
        assert sorted(one for person in installation.people for one in person.records[system]) == done


def _ready(probe: Callable[[str], int]) -> Callable[[], bool]:
    return lambda: probe("/readyz") == 200


def _asked(installation: Installation) -> int:
    """How many steps have asked a party; while one is reminded it does not wait, so states don't tell."""
    return sum(step.asked_at is not None for saga in installation.sagas().values() for step in saga.steps)


def _links(installation: Installation) -> set[str]:
    """Those that the agency was given first, one for each request; reminders have others."""
    mails = [message_from_bytes(data, policy=policy.default) for data in installation.outside.mails()]
    first: dict[str, str] = {}
    for mail in mails:
        for link in LINK.findall(mail.get_content()):
            first.setdefault(str(mail["Subject"]), link)
    return set(first.values())


def _answers(installation: Installation, request_id: str) -> int:
    """How often the agency's answer to its first mail was noted."""
    first = {"system": AGENCY, "trigger": "party_erased", "attempt": "2"}
    entries = installation.ground.store.timeline(request_id)
    return sum(one.action == "confirmed" and first.items() <= one.data.items() for one in entries)


def _unsent(installation: Installation) -> int:
    try:
        return installation.ground.store.figures().unsent
    except StoreError:
        return -1


def _kafka(installation: Installation) -> tuple[object, object]:
    """How far the topics go, and the groups."""
    with opened_admin(installation.kafka) as admin:
        return admin.extent(READ), {group: admin.stored(group) for group in GROUPS}


def _waiting(installation: Installation) -> dict[tuple[str, str], list[str]]:
    """What the orchestrator has put into the outbox for each topic and request, in order."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    query = "SELECT topic, key, event_id FROM outbox WHERE event_id NOT LIKE 'taken:%' ORDER BY seq"
    with connect(installation.database.url.set(database="radera")) as connection:
        for topic, key, event_id in connection.execute(query):
            found[topic, key].append(event_id)
    return dict(found)


def _first_sent(installation: Installation) -> dict[tuple[str, str], list[str]]:
    """What came out on the topics, in order; what was sent twice, as it came first."""
    found: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    sent = [one for one in READ if one == topics.OUTCOMES or ".commands." in one]
    for delivery in installation.ground.bus.browse(sent):
        event_id = delivery.header("ce_id")
        assert event_id is not None
        found[delivery.topic, delivery.key].setdefault(event_id.decode())
    return {place: list(ids) for place, ids in found.items()}
