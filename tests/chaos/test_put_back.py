"""PostgreSQL put back from a backup taken a while ago, while Kafka went on."""

import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from email.parser import BytesHeaderParser
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.intake import Producer
from orchestrator.privacy import Identifier
from orchestrator.privacy.exchange import PublicKey
from orchestrator.smtp import message_id
from orchestrator.store import SentMails
from orchestrator.store.tables import mails_in_hand
from schemas import topics
from tests.chaos.installation import DOMAIN, GROUPS, NORD, Installation, create_database, told
from tests.chaos.people import SYSTEMS, Person, people, settle
from tests.integration.processes import eventually

_HEAD = re.compile(rb"Timeline [0-9a-f]{64}")


@pytest.mark.timeout(600)
def test_a_database_put_back_from_a_backup(installation: Installation, tmp_path: Path, seed: int) -> None:
    """What happened since is read again from Kafka, from the positions that the backup holds: requests that
    had ended since end again, in the same way, and requests that it has never seen are there, whether they
    were submitted here or by a producer outside, and also where an answer and its request are read by
    different processes. Nothing new is done at any vendor. Of the mails only those come again that the backup
    did not know of, as the same mails, with the head of the timeline that there is now.
    """
    crowd = people(random.Random(seed), 12)
    early, late = crowd[:7], crowd[7:]
    settle(installation, crowd)
    installation.start_few()
    installation.people = crowd
    for person in early:
        assert installation.submit(person)
    eventually("some have ended", lambda: len(installation.open_people()) < 5, within=60, every=0.2)
    backup = _backed_up(installation, tmp_path)
    _produced(installation, late[::2])
    for person in late[1::2]:
        assert installation.submit(person)
    installation.await_end(240)
    _await_rest(installation)
    done = _ledgers(installation)
    installation.fleet.end_all()
    assert [] == installation.fleet.bad_ends

    _put_back(installation, backup)
    recorded = SentMails(installation.ground.store)
    known = {one.event_id for one in installation.outcomes() if recorded.seen(one.event_id)}
    assert known
    again = {person.request_id for person in installation.open_people()}
    assert {person.request_id for person in late} < again or {person.request_id for person in late} == again
    installation.start_few()
    installation.start("orchestrator")
    installation.await_end(240)

    sagas = installation.sagas()
    assert {person.request_id for person in crowd} == set(sagas)
    for person in crowd:
        saga = sagas[person.request_id]
        ends = {step.system: getattr(step.state, "end", step.state.status) for step in saga.steps}
        assert ("completed", person.ends, ()) == (saga.status, ends, saga.escalations)
        assert installation.ground.store.verify_timeline(person.request_id).is_intact
    assert done == _ledgers(installation)
    assert {1} == set(done.values())
    completed = Counter(one.request_id for one in installation.outcomes() if one.kind == "completed")
    assert {person.request_id: 1 for person in crowd} == dict(completed)
    dead = [topics.dead_letters(topic) for topic in GROUPS["orchestrator"]]
    assert [] == list(installation.ground.bus.browse(dead))
    _await_rest(installation)
    _check_mails(installation, {person.request_id for person in late}, known)


def _await_rest(installation: Installation) -> None:
    def rests() -> bool:
        # In the order in which they travel: what has left one place is looked for in the next.
        return not installation.ground.store.figures().unsent and not any(installation.backlog().values())

    eventually("nothing is on its way", rests, within=30, every=0.5)


def _mails(installation: Installation) -> dict[str, list[bytes]]:
    """What the mail server took for officer and people, by Message-ID, without its date and sender."""
    texts: dict[str, list[bytes]] = {}
    for data in installation.outside.mails():
        head = BytesHeaderParser().parsebytes(data)
        if head["to"] != NORD:
            text = re.sub(rb"(?m)^(Date|From):.*$", b"", data)
            texts.setdefault(str(head["message-id"]), []).append(text)
    return texts


def _check_mails(installation: Installation, late: set[str], known: set[str]) -> None:
    """Every outcome was mailed; again, if the backup did not know its mail, and then in the same words but
    for the timeline's head, of which the last is in the timeline. `known` are events.
    """
    mails = _mails(installation)
    said = {message_id(DOMAIN, one.request_id, one.event_id): one for one in installation.outcomes()}
    assert set(said) == set(mails)
    for message, outcome in said.items():
        texts = mails[message]
        assert len(texts) == 1 or (len(texts) == 2 and outcome.event_id not in known)
        assert 1 == len({_HEAD.sub(b"", text) for text in texts})
        if outcome.kind == "completed":
            assert outcome.request_id not in late or len(texts) == 2
            entries = installation.ground.store.timeline(outcome.request_id)
            assert _HEAD.findall(texts[-1])[0].split()[-1].decode() in {entry.hash for entry in entries}


def _produced(installation: Installation, crowd: Iterable[Person]) -> None:
    """By a producer outside, who sends the request's key with it: a backup need not have it."""
    producer = Producer(PublicKey.from_json(told(installation.config, "keys", "public")), source="test")
    for person in crowd:
        made = producer.request(
            [Identifier("email", person.email)],
            request_id=person.request_id,
            scope=SYSTEMS,
            verified=True,
        )
        producer.publish(installation.ground.bus, made)
        person.is_submitted = True


def _ledgers(installation: Installation) -> Counter[str]:
    """What was done for the first time, and how often."""
    return Counter(
        record
        for vendor in installation.vendors.values()
        for record, _, repeated in vendor.ledger()
        if not repeated
    )


def _backed_up(installation: Installation, folder: Path) -> Path:
    """While everybody works."""
    file = folder / "backup"
    _run(installation, "pg_dump", "--format=custom", f"--file={file}")
    return file


def _put_back(installation: Installation, backup: Path) -> None:
    installation.ground.engine.dispose()
    installation.desk.engine.dispose()
    create_database(installation.database)
    _run(installation, "pg_restore", "--exit-on-error", str(backup))
    # A mailbox's claims last some minutes: longer than this took, and shorter than putting back does.
    with installation.ground.engine.begin() as connection:
        connection.execute(sa.update(mails_in_hand).values(until=0))


def _run(installation: Installation, program: str, *words: str) -> None:
    url = installation.database.url.set(drivername="postgresql", database="radera")
    folder = installation.database.programs
    subprocess.run([folder / program, f"--dbname={url.render_as_string()}", *words], check=True)
