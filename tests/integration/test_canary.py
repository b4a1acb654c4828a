"""Canaries in every request, through every kind of end: none gets out, at any time, to anywhere."""

import random
import sqlite3
import subprocess
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest

from orchestrator.bus.port import Record
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.cli.submit import identifier_of, submit_to
from schemas import topics
from tests.integration.canaries import Aviary, Canary, Search
from tests.integration.processes import command, contents, eventually
from tests.integration.settings import DPO, NORD, SYD
from tests.integration.watching import Watch
from tests.integration.world import World

SYSTEMS = ("superoffice", "hubspot", "web_analytics", "agency_nord", "tenant_byggab")
ENDS = {
    "refused": "completed",
    "failed": "cancelled",
    "unicode": "completed",
    "unverified": "rejected",
    "nameless": "completed",
    "cancelled": "cancelled",
}


class Stage:
    """Puts people on, with commands as a person at a terminal gives them, and listens to what they say."""

    def __init__(self, world: World, watch: Watch) -> None:
        self.world = world
        self.watch = watch
        self.requests: dict[str, str] = {}

    def run(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """A `radera` command; what it prints is watched."""
        ended = command(self.world.config, *words, given=given)
        self.watch.take(f"what radera {words[0]} said", f"{ended.stdout}\0{ended.stderr}".encode())
        return ended

    def submit(
        self, who: str, identifiers: list[tuple[str, str]], *systems: str, verified: bool = True
    ) -> None:
        """A request, from this process."""
        self.requests[who] = submit_to(
            self.world.ground,
            [identifier_of(kind, value) for kind, value in identifiers],
            scope=systems,
            verified=verified,
            source="test",
        )

    def type_in(self, who: str, identifiers: list[tuple[str, str]], *options: str) -> str:
        """`radera submit`, with the identifiers on its standard input."""
        lines = "".join(f"{kind.replace('_', '-')}={value}\n" for kind, value in identifiers)
        ended = self.run("submit", *options, given=lines)
        assert ended.returncode == 0, ended.stderr
        self.requests[who] = ended.stdout.strip()
        return self.requests[who]

    def decide(self, who: str, action: str, reason: str = "", escalation: str | None = None) -> None:
        words = ["decide", self.requests[who], action]
        words += ["--reason", reason] if reason else []
        words += ["--escalation", escalation] if escalation else []
        ended = self.run(*words)
        assert ended.returncode == 0, ended.stderr

    def questions(self, who: str) -> dict[str, str]:
        """The open questions about a request: their names, by reason."""
        saga = self.world.ground.store.saga(self.requests[who])
        return {} if saga is None else {one.reason: f"{one.id}@{one.version}" for one in saga.escalations}

    def await_question(self, who: str, reason: str) -> str:
        eventually(f"{who}: {reason}", lambda: reason in self.questions(who), within=40)
        return self.questions(who)[reason]

    def await_status(self, who: str, status: str) -> None:
        def is_there() -> bool:
            saga = self.world.ground.store.saga(self.requests[who])
            return saga is not None and saga.status == status

        eventually(f"{who} is {status}", is_there, within=40)

    def look_around(self) -> None:
        """The requests, as the commands show them."""
        assert self.run("status", "--all", "--json").returncode == 0
        for who in ("anna", "refused"):
            assert self.run("status", self.requests[who]).returncode == 0
            assert self.run("timeline", self.requests[who]).returncode == 0


def scope(*systems: str) -> list[str]:
    return [word for system in systems for word in ("--scope", system)]


@pytest.mark.parametrize("world", [{"log_level": "debug", "max_attempts": 2}], indirect=True)
@pytest.mark.timeout(600)
def test_no_canary_gets_out(world: World) -> None:
    """Requests that are completed, refused, failed, rejected, cancelled, in conflict and in pieces, at
    vendors who quote the person in every error: no identifier, and no vendor's number of a record, is ever in
    the database's files, the log, the metrics, a command line, an environment, what a command prints, a dead
    letter, or a mail, but for the two places that need one: the To of a notice, and the mail to an agency.
    """
    rng = random.Random(world.seed)
    aviary, strangers = Aviary(rng), Aviary(rng)
    people = _plant(world, aviary)
    planted = _strange_records(strangers)
    _make_vendors_fail(world, people)

    search = Search([*aviary.canaries, *_foreseen(rng, aviary)])
    watch = Watch(
        search,
        folders=[world.directory, world.radera.log.parent / "tmp"],
        but=[world.directory / "secrets"],
        port=world.http_port,
        marked=str(world.config),
    )
    log = Watch(
        Search([*aviary.canaries, *strangers.canaries]), folders=[], but=[], port=0, marked="\0nobody"
    )
    world.radera.start()
    with watch:
        stage = Stage(world, watch)
        _submit_all(stage, people)
        _knock(world, people)
        world.ground.bus.publish(planted)
        _decide_all(stage)
        stage.look_around()
        unsent = (topics.OUTCOMES,)
        eventually("no mail waits", lambda: not world.ground.bus.backlog("mailbox", unsent), within=20)
        watch.take("the log", world.radera.log.read_bytes())
        metrics = httpx.get(f"http://127.0.0.1:{world.http_port}/metrics", trust_env=False).content
    world.radera.stop()
    watch.look()

    assert [] == watch.found
    assert watch.looks > 20
    log.take("the log", world.radera.log.read_bytes())
    log.take("/metrics", metrics)
    _check_dead_letters(world, log, planted)
    for mail, raw in zip(world.mails(), world.vendors.mails(), strict=True):
        _check_mail(world, mail, raw, Search([*aviary.canaries, *strangers.canaries]), aviary.canaries)
    assert [] == log.found
    _check_what_strangers_left(world, planted, Search(strangers.canaries))


# --- the people ---


def _plant(world: World, aviary: Aviary) -> dict[str, list[tuple[str, str]]]:
    """Eight people with a canary for every identifier, and for the vendors' numbers of their records."""
    people = {
        who: [("email", aviary.email(who)), ("name", aviary.name(who))]
        for who in ("anna", "refused", "failed", "unverified", "cancelled", "impostor")
    }
    people["anna"] += [
        ("phone", aviary.phone("anna")),
        ("ga_client_id", f"GA1.1.{aviary.cookie('anna')}"),
        ("customer_id", aviary.customer_id("anna")),
    ]
    people["unicode"] = [("email", aviary.unicode_email("unicode")), ("name", aviary.name("unicode"))]
    people["nameless"] = [("phone", aviary.phone("nameless")), ("name", aviary.name("nameless"))]
    emails = {who: dict(given).get("email", "") for who, given in people.items()}
    cookie = dict(people["anna"])["ga_client_id"].removeprefix("GA1.1.")
    world.vendors.seed(
        {
            "superoffice": {
                "persons": [
                    {
                        "id": aviary.record(who),
                        "name": dict(people[who])["name"],
                        "email": emails[who],
                        "tickets": [{"id": aviary.record(who), "title": "Enquiry", "body": emails[who]}],
                    }
                    for who in ("anna", "unicode")
                ]
            },
            "hubspot": {
                "contacts": [
                    {"id": aviary.record(who), "email": emails[who]}
                    for who in ("anna", "refused", "failed", "unicode")
                ]
            },
            "google": {"visitors": [{"client_id": cookie, "email": emails["anna"]}]},
            "tenants": [
                {
                    "tenant": "byggab",
                    "records": [
                        {
                            "id": f"user-{aviary.record('anna')}",
                            "identities": [{"type": "email", "value": emails["anna"]}],
                        }
                    ],
                }
            ],
        }
    )
    return people


def _foreseen(rng: random.Random, aviary: Aviary) -> list[Canary]:
    """National ways to write the numbers, which hold no plus and no country."""
    return [
        Canary(f"{one.name}/national", "phone", f"0{one.core}", f"0{one.core[:2]}-{one.core[2:]}")
        for one in aviary.canaries
        if one.kind == "phone"
    ]


def _make_vendors_fail(world: World, people: dict[str, list[tuple[str, str]]]) -> None:
    """Errors that pass and errors that don't; all of them quote whom they were asked about."""
    failed = dict(people["failed"])["email"]
    fault = world.vendors.fault
    fault("400", vendor="hubspot", method="GET", path=f"contacts/{failed}", times=None)
    fault("429", vendor="hubspot", method="GET", path="contacts/", retry_after=1)
    fault("503", vendor="superoffice", method="GET", path="Archive|Person", times=1)
    fault("500", vendor="tenant-api", path="erase")
    fault("503", vendor="controllers", path="confirmations")


def _submit_all(stage: Stage, people: dict[str, list[tuple[str, str]]]) -> None:
    stage.type_in("anna", people["anna"], *scope(*SYSTEMS), "--tenant", "byggab", "--language", "sv")
    stage.submit("refused", people["refused"], "hubspot", "agency_syd")
    stage.submit("failed", people["failed"], "hubspot")
    stage.submit("unicode", people["unicode"], "superoffice", "hubspot")
    stage.submit("unverified", people["unverified"], "hubspot", verified=False)
    stage.submit("nameless", people["nameless"], "agency_nord", verified=False)
    stage.submit("cancelled", people["cancelled"], "agency_syd")
    # Somebody else's identifiers under the id of a request that is open.
    known = stage.requests["cancelled"]
    assert known == stage.type_in("impostor", people["impostor"], *scope("agency_syd"), "--id", known)
    # What nobody can be found by is refused, without a word about what it was.
    email = dict(people["anna"])["email"]
    for given in (f"email={email}@@\n", f"mail={email}\n", f"{email}\n"):
        assert stage.run("submit", given=given).returncode == 2


def _knock(world: World, people: dict[str, list[tuple[str, str]]]) -> None:
    """Strangers call at every door of ours, with a person in the path, the query, a header and the body."""
    email = dict(people["anna"])["email"]
    name = dict(people["anna"])["name"]
    body = f'{{"Event": "person.deleted", "email": "{email}", "name": "{name}"}}'.encode()
    headers = {"x-superoffice-signature": email, "x-forwarded-for": email, "user-agent": email}
    with httpx.Client(base_url=f"http://127.0.0.1:{world.http_port}", trust_env=False) as client:
        for path in ("/callbacks/superoffice", "/callbacks/recruitment", "/callbacks/tenant"):
            client.post(path, content=body, headers=headers)
            client.post(f"{path}/{email}", content=body, headers=headers)
        client.get(f"/answer/{email}", headers=headers)
        client.post(f"/answer/{email}", data={"answer": name}, headers=headers)
        client.get(f"/{email}", params={"q": name}, headers=headers)
        client.post(f"/callbacks/{email}", content=body, headers=headers)


def _strange_records(strangers: Aviary) -> list[Record]:
    """Records that are no messages of ours, full of a person: value, key and headers."""
    made = []
    for number, topic in enumerate(
        (
            topics.REQUESTS,
            topics.CONFIRMATIONS,
            topics.DECISIONS,
            topics.OUTCOMES,
            topics.commands("hubspot"),
            topics.callbacks("tenant"),
        )
    ):
        who = f"stranger{number}"
        email, name = strangers.email(who), strangers.name(who)
        headers = (("ce_id", email.encode()), ("ce_subject", name.encode()))
        value = f'{{"email": "{email}", "name": "{name}"}}'.encode()
        made.append(Record(topic=topic, key=email, value=value, headers=headers))
        made.append(Record(topic=topic, key=name, value=b"\xc3\x01" + value, headers=headers))
    return made


def _decide_all(stage: Stage) -> None:
    """Each request to its end, as the DPO decides."""
    stage.await_status("anna", "completed")

    question = stage.await_question("refused", "party_refused")
    stage.look_around()
    stage.decide("refused", "waive", "settled with the agency by telephone", question)
    stage.await_question("failed", "failed")
    stage.decide("failed", "cancel", "the person withdrew it")
    stage.decide("unicode", "waive", "told by letter", stage.await_question("unicode", "acted_notice_failed"))
    stage.decide("unverified", "reject", "identity was not shown")
    stage.decide("nameless", "verify")
    question = stage.await_question("nameless", "acted_notice_failed")
    stage.decide("nameless", "waive", "told by telephone", question)
    stage.await_question("cancelled", "request_id_conflict")
    stage.decide("cancelled", "cancel", "two people under one id")

    for who, status in ENDS.items():
        stage.await_status(who, status)


# --- what is left ---


def _check_dead_letters(world: World, watch: Watch, planted: list[Record]) -> None:
    """Every strange record was kept, sealed, and nothing of it shows: not even in its key."""
    dead = world.records("%.dlq")
    assert len(dead) >= len(planted)
    for topic, key, headers, value in dead:
        watch.take(f"a dead letter on {topic}", b"\0".join([key.encode(), headers.encode(), value]))
    with closing(sqlite3.connect(f"file:{world.database}?mode=ro", uri=True)) as connection:
        sent = connection.execute("SELECT event_id, topic, key, headers, value FROM outbox").fetchall()
        told = connection.execute("SELECT action, data FROM timeline").fetchall()
        kept = connection.execute("SELECT request_id, document FROM sagas").fetchall()
    for row in [*sent, *told, *kept]:
        watch.take("the database", b"\0".join(str(one).encode() for one in row))


def _check_mail(world: World, mail: EmailMessage, raw: bytes, search: Search, canaries: list[Canary]) -> None:
    """Nothing in a mail to the DPO. In one to a person nothing but the To; in one to an agency nothing but,
    in its text, the one identifier by which it can find the person.
    """
    to = str(mail["to"])
    head, _, body = raw.partition(b"\r\n\r\n")
    plain = mail.get_content().encode()
    headers = [(name, f"{name}: {value}") for name, value in mail.items()]
    if to == DPO:
        assert [] == list(search.look("a mail to the DPO", raw + b"\0" + plain))
        assert [] == list(search.look("its headers", "\0".join(text for _, text in headers).encode()))
        return
    if to in (NORD, SYD):
        found = list(search.look("a mail to an agency", b"\0".join([body, plain])))
        allowed = {one.name for one in canaries if one.kind in ("email", "phone")}
        assert len({one.canary for one in found}) == 1
        assert {one.canary for one in found} <= allowed
        assert [] == list(search.look("its head", head))
        return
    assert {"To"} == {name for name, text in headers if list(search.look(name, text.encode()))}
    rest = b"\0".join(line for line in head.split(b"\r\n") if not line.startswith(b"To:"))
    assert [] == list(search.look("a notice", rest + b"\0" + body + b"\0" + plain))


def _check_what_strangers_left(world: World, planted: list[Record], search: Search) -> None:
    """What a stranger published stood in clear from the first, and dies with the record it came in: once
    that is gone, as it is when its retention is over, there is no other copy.
    """
    bus = world.ground.bus
    assert isinstance(bus, SqliteBus)
    bus.trim(world.ground.store.now() + 1)
    assert world.ground.keys.shred()
    world.ground.engine.dispose()
    files = [path for path in world.directory.iterdir() if path.is_file()]
    assert [] == [one for path in files for one in search.look(path.name, contents(path))]


def test_a_reason_that_names_the_person_is_not_taken(world: World) -> None:
    """The DPO's reason stays on record when the key is gone. One with the person's address or name in it is
    refused at once, and is nowhere.
    """
    aviary = Aviary(random.Random(world.seed))
    given = [("email", aviary.email("anna")), ("name", aviary.name("anna"))]
    request_id = submit_to(
        world.ground, [identifier_of(*one) for one in given], verified=False, source="test"
    )
    world.radera.start()
    eventually("it has begun", lambda: world.ground.store.saga(request_id) is not None, within=20)

    for _, quoted in given:
        ended = command(world.config, "decide", request_id, "reject", "--reason", f"it was {quoted} again")
        assert (2, "") == (ended.returncode, ended.stdout)
        assert quoted not in ended.stderr
    world.radera.stop()

    assert [] == world.records(topics.DECISIONS)
    search = Search(aviary.canaries)
    files = [path for path in world.directory.iterdir() if path.is_file()]
    assert [] == [one for path in files for one in search.look(path.name, contents(path))]


def test_the_search_finds_what_got_out(tmp_path: Path, seed: int) -> None:
    """Planted in every form, in the middle of anything, each canary is found: a search that finds nothing
    would pass everything.
    """
    import base64
    import json
    from urllib.parse import quote

    aviary = Aviary(random.Random(seed))
    for plant in (aviary.email, aviary.unicode_email, aviary.phone, aviary.name, aviary.cookie):
        plant("somebody")
    search = Search(aviary.canaries)
    for canary in aviary.canaries:
        text = f"before {canary.value} after"
        forms = [
            text.encode(),
            text.upper().encode(),
            text.encode("utf-16"),
            text.encode().hex().encode(),
            quote(text).encode(),
            json.dumps({"said": text}).encode(),
            *(base64.b64encode(bytes(shift) + text.encode()) for shift in range(3)),
            *(base64.urlsafe_b64encode(bytes(shift) + text.encode()) for shift in range(3)),
        ]
        for form in forms:
            assert canary.name in {one.canary for one in search.look("here", form)}, (canary.kind, form)
    assert [] == list(search.look("here", random.Random(seed).randbytes(1_000_000)))

    (tmp_path / "leak").write_bytes(b"x" * 4090 + aviary.canaries[0].value.encode())
    watch = Watch(search, folders=[tmp_path], but=[], port=0, marked="\0nobody")
    watch.look()
    assert {"somebody/email"} == {one.canary for one in watch.found}
