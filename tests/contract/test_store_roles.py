"""Each role on PostgreSQL can do its work, and nothing else. The SQL is the one that users apply."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from orchestrator.bus.port import Record
from orchestrator.intake.outbox import Outbox
from orchestrator.privacy.keyring import Keyring
from orchestrator.privacy.sealing import new_key
from orchestrator.saga.timeline import GENESIS, append
from orchestrator.store import (
    KEY_LOST,
    Asked,
    AskedRequests,
    Correlation,
    KnownGenerations,
    Outgoing,
    SentMails,
    Store,
    StoredKeys,
    StoredSent,
    TopicNotes,
    forget_subjects,
    open_engine,
    purge_inbox,
    purge_requests,
)
from orchestrator.store.alone import rotating_alone
from orchestrator.store.engine import bare_engine
from orchestrator.store.errors import NotAllowed
from orchestrator.store.migrations import upgrade
from orchestrator.store.tables import metadata, schema_version
from schemas import topics
from tests.contract.store_suite import NOW, finished, outgoing, saga
from tests.integration.postgresql_server import connect, new_database

SQL = Path(__file__).parents[2] / "deploy" / "postgresql"
ROLES = ("radera_owner", "radera_orchestrator", "radera_worker", "radera_mailbox", "radera_serve")
VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


def as_role(url: str, role: str) -> str:
    """The same database for someone who may do what the role may."""
    return make_url(url).update_query_dict({"options": f"-crole={role}"}).render_as_string(False)


@pytest.fixture(scope="module")
def url(postgresql_server: URL) -> Iterator[str]:
    """A database set up as its README says, each file applied twice."""
    with new_database(postgresql_server) as url, connect(make_url(url)) as connection:
        # Roles belong to the server, where another process may be at the same.
        connection.execute("SELECT pg_advisory_lock(1)")
        for _ in range(2):
            connection.execute((SQL / "roles.sql").read_bytes())
        connection.execute("SELECT pg_advisory_unlock(1)")
        upgrade(as_role(url, "radera_owner"))
        with connect(make_url(as_role(url, "radera_owner"))) as owner:
            for _ in range(2):
                owner.execute((SQL / "grants.sql").read_bytes())
        yield url


@pytest.fixture(autouse=True)
def empty(url: str) -> Iterator[None]:
    yield
    with connect(make_url(url)) as connection:
        connection.execute(f"TRUNCATE {', '.join(metadata.tables)}".encode())


@pytest.fixture
def store_of(url: str) -> Iterator[Callable[[str], Store]]:
    """The store as a role sees it."""
    engines: list[sa.Engine] = []

    def open_as(role: str) -> Store:
        engines.append(open_engine(as_role(url, role)))
        return Store(engines[-1], lambda: NOW)

    yield open_as
    for engine in engines:
        engine.dispose()


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    tmp_path.chmod(0o700)
    return Keyring.create(tmp_path / "radera.keys", NOW)


def test_what_each_may_do(url: str) -> None:
    """Every right to every table, and none that is not listed here."""
    expected = {
        ("radera_orchestrator", "sagas"): "SELECT INSERT UPDATE DELETE",
        ("radera_orchestrator", "outbox"): "SELECT INSERT DELETE",
        ("radera_orchestrator", "correlations"): "SELECT INSERT UPDATE DELETE",
        ("radera_orchestrator", "positions"): "SELECT INSERT UPDATE",
        ("radera_orchestrator", "subject_keys"): "SELECT INSERT UPDATE",
        ("radera_orchestrator", "inbox"): "SELECT INSERT UPDATE DELETE",
        ("radera_orchestrator", "timeline"): "SELECT INSERT DELETE",
        ("radera_orchestrator", "schema_version"): "SELECT",
        ("radera_orchestrator", "installation"): "SELECT INSERT",
        ("radera_orchestrator", "key_generations"): "SELECT INSERT UPDATE",
        ("radera_orchestrator", "clock_seen"): "SELECT INSERT UPDATE",
        ("radera_orchestrator", "words_taken"): "SELECT DELETE",
        ("radera_orchestrator", "opendsr_requests"): "SELECT UPDATE DELETE",
        ("radera_orchestrator", "opendsr_callbacks"): "SELECT UPDATE DELETE",
        ("radera_worker", "subject_keys"): "SELECT",
        ("radera_worker", "inbox"): "SELECT INSERT",
        ("radera_worker", "schema_version"): "SELECT",
        ("radera_worker", "installation"): "SELECT",
        ("radera_worker", "key_generations"): "SELECT",
        ("radera_mailbox", "subject_keys"): "SELECT",
        ("radera_mailbox", "inbox"): "SELECT INSERT",
        ("radera_mailbox", "mails_in_hand"): "SELECT INSERT DELETE",
        ("radera_mailbox", "schema_version"): "SELECT",
        ("radera_mailbox", "installation"): "SELECT",
        ("radera_mailbox", "key_generations"): "SELECT",
        ("radera_serve", "subject_keys"): "SELECT INSERT",
        ("radera_serve", "inbox"): "SELECT INSERT",
        ("radera_serve", "sagas"): "SELECT",
        ("radera_serve", "timeline"): "SELECT",
        ("radera_serve", "schema_version"): "SELECT",
        ("radera_serve", "installation"): "SELECT",
        ("radera_serve", "key_generations"): "SELECT",
        ("radera_serve", "words_taken"): "SELECT INSERT UPDATE",
        ("radera_serve", "opendsr_requests"): "SELECT INSERT UPDATE",
        ("radera_serve", "opendsr_callbacks"): "SELECT INSERT UPDATE",
    }
    may = {}
    with connect(make_url(url)) as connection:
        for role in ROLES[1:]:
            for table in (*metadata.tables, schema_version.name):
                has = "SELECT has_table_privilege(%s, %s, %s)"
                verbs = [v for v in VERBS if connection.execute(has, (role, table, v)).fetchone() == (True,)]
                if verbs:
                    may[role, table] = " ".join(verbs)

    assert expected == may
    with connect(make_url(url)) as connection:
        columns = connection.execute(
            "SELECT string_agg(attname, ' ' ORDER BY attnum), string_agg(DISTINCT privilege_type, ' ') "
            "FROM pg_attribute, aclexplode(attacl) AS granted "
            "WHERE grantee = 'radera_serve'::regrole AND attrelid = 'outbox'::regclass"
        ).fetchone()
        others = connection.execute(
            "SELECT count(DISTINCT attrelid) FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid > 16383"
        )
        assert ("event_id topic key headers value created_at shard", "INSERT") == columns
        assert (1,) == others.fetchone()


@pytest.mark.parametrize("role", ROLES)
def test_nobody_is_more_than_a_user(url: str, role: str) -> None:
    """No role rules over others, copies files or passes row security, and only the owner makes tables."""
    with connect(make_url(url)) as connection:
        powers = connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, "
            "(SELECT count(*) FROM pg_auth_members WHERE member = pg_roles.oid), "
            "has_schema_privilege(rolname, 'public', 'CREATE'), "
            "has_database_privilege(rolname, current_database(), 'CREATE, TEMP') "
            "FROM pg_roles WHERE rolname = %s",
            (role,),
        ).fetchone()

    assert (False, False, False, False, False, 0, role == "radera_owner", False) == powers


def test_the_clock_needs_no_right(url: str) -> None:
    """Who may read no table at all can still ask what time it is."""
    with connect(make_url(url)) as connection:
        connection.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM radera_worker")
    try:
        engine = bare_engine(as_role(url, "radera_worker"))
        assert Store(engine).now() > NOW
        engine.dispose()
    finally:
        with connect(make_url(as_role(url, "radera_owner"))) as owner:
            owner.execute((SQL / "grants.sql").read_bytes())


def test_the_orchestrator(store_of: Callable[[str], Store], keyring: Keyring) -> None:
    """A whole batch, timers, the relay, keys and their rotation, and the upkeep."""
    store = store_of("radera_orchestrator")
    keys = StoredKeys(store, keyring)
    with store.begin() as tx:
        assert {"e"} == tx.insert_inbox("orchestrator", ["e"])
        tx.insert_missing_sagas(["r", "old"])
        tx.load(["r", "old"])
        tx.save([saga("r"), finished("old")])
        tx.append_timeline([("old", append(GENESIS, 1, NOW, "received", {}))])
        tx.enqueue([outgoing("o")])
        tx.correlate([Correlation(digest="d", request_id="old", system="s")])
        tx.resolve(["d"])
        keys.insert_within(tx, {"r": new_key(), "old": new_key()})
        tx.destroy_keys(["old"], NOW)
        tx.set_positions("orchestrator", {("t", 0): 1})
    with store.begin() as tx:
        assert ["r"] == [one.request_id for one in tx.due(100, 10)]
        tx.set_aside("r", NOW)
        tx.own_keys()
    with store.relay(10) as records:
        assert [outgoing("o")] == records
    generations = KnownGenerations(store, keyring, keys)
    generations.take()
    generations.check()
    keyring.rotate(NOW)

    assert 1 == keys.rewrap().count
    assert {("t", 0): 1} == store.positions("orchestrator")
    assert store.verify_timeline("old").length == 1
    assert (1, 1) == (store.figures().open_requests, store.figures().quarantined)
    assert [1, 1, 1] == [
        forget_subjects(store, NOW + 1),
        purge_requests(store, NOW + 1),
        purge_inbox(store, NOW + 1, ["orchestrator"]),
    ]


@pytest.mark.parametrize("role", ["radera_worker", "radera_mailbox", "radera_serve"])
def test_who_may_rotate_is_asked_before(store_of: Callable[[str], Store], role: str) -> None:
    """An account that could not end a rotation doesn't begin one; the orchestrator's does, and the question
    changes nothing.
    """
    with store_of("radera_orchestrator").begin() as transaction:
        transaction.check_rights_to_rotate()
    with pytest.raises(NotAllowed), store_of(role).begin() as transaction:
        transaction.check_rights_to_rotate()


def test_rotations_exclude_each_other(store_of: Callable[[str], Store]) -> None:
    """Over processes and machines."""
    one, another = store_of("radera_orchestrator"), store_of("radera_orchestrator")
    with rotating_alone(one.engine) as is_alone, rotating_alone(another.engine) as too:
        assert (True, False) == (is_alone, too)
    with rotating_alone(another.engine) as is_alone:
        assert is_alone


def test_a_loss_is_the_orchestrators_to_declare(store_of: Callable[[str], Store], keyring: Keyring) -> None:
    """Everybody learns of it; the open requests concerned are found once."""
    store, worker = store_of("radera_orchestrator"), store_of("radera_worker")
    keys = StoredKeys(store, keyring)
    with store.begin() as tx:
        tx.save([saga("r"), finished("old")])
        keys.insert_within(tx, {"r": new_key(), "old": new_key(), "unopened": new_key()})
    number = keyring.current.number
    known = KnownGenerations(store, keyring, keys)
    theirs = KnownGenerations(worker, keyring, StoredKeys(worker, keyring))
    with pytest.raises(NotAllowed):
        theirs.declare_lost(number, by="dpo", reason="why")
    for _ in range(2):
        with store.begin() as tx:
            assert {} == tx.with_lost_keys("orchestrator", 10)
        known.take()
    known.declare_lost(number, by="dpo", reason="why")

    assert {number} == theirs.lost()
    with store.begin() as tx:
        assert {"r": number} == tx.with_lost_keys("orchestrator", 10)
        tx.insert_inbox("orchestrator", [f"{KEY_LOST}r/{number}"])
        assert {} == tx.with_lost_keys("orchestrator", 10)


@pytest.mark.parametrize("role", ["radera_worker", "radera_mailbox", "radera_serve"])
def test_whose_the_keyring_is_everybody_may_ask(
    store_of: Callable[[str], Store], keyring: Keyring, role: str
) -> None:
    """And nobody but the orchestrator says."""
    orchestrator, store = store_of("radera_orchestrator"), store_of(role)
    theirs = StoredKeys(orchestrator, keyring)
    theirs.insert("r", new_key())
    mine = KnownGenerations(store, keyring, StoredKeys(store, keyring))
    mine.check()
    with pytest.raises(NotAllowed):
        mine.take()
    KnownGenerations(orchestrator, keyring, theirs).take()
    mine.check()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE timeline SET action = 'step.absent'",
        "DELETE FROM subject_keys",
        "TRUNCATE inbox",
        "DELETE FROM positions",
        "UPDATE schema_version SET version_num = '0000'",
        "DROP TABLE outbox",
        "CREATE TABLE more (x integer)",
    ],
)
def test_what_the_orchestrator_may_not(store_of: Callable[[str], Store], statement: str) -> None:
    """It neither changes what was told nor takes tombstones away, nor alters tables."""
    store = store_of("radera_orchestrator")

    with pytest.raises(NotAllowed), store.engine.begin() as connection:
        connection.exec_driver_sql(statement)


def test_a_worker(store_of: Callable[[str], Store], keyring: Keyring) -> None:
    """It opens what a command brings, and remembers the mails that it sent. It can't read a saga, file a key,
    or pretend what others have handled.
    """
    key = new_key()
    StoredKeys(store_of("radera_orchestrator"), keyring).insert("r", key)
    store = store_of("radera_worker")
    keys = StoredKeys(store, keyring)

    assert key == keys.key_of("r")
    notes = TopicNotes(store)
    notes.add("worker", {"t/a"})
    assert ({"t/a"}, set()) == (notes.of("worker"), notes.of("mailbox"))
    mails = StoredSent(store, "agency-mails")
    mails.record("e")
    assert (True, False) == (mails.seen("e"), StoredSent(store, "mailbox").seen("e"))
    for attempt in (
        lambda: store.saga("r"),
        lambda: store.timeline("r"),
        lambda: store.unsent(1),
        lambda: store.positions("orchestrator"),
        lambda: StoredSent(store, "mailbox").record("e"),
        lambda: StoredSent(store, "orchestrator").record("e"),
        lambda: notes.add("orchestrator", {"t/a"}),
        lambda: SentMails(store).claim("e", 60),
        lambda: keys.insert("s", new_key()),
        lambda: keys.destroy("r"),
    ):
        with pytest.raises(NotAllowed):
            attempt()


def test_the_mailbox(store_of: Callable[[str], Store], keyring: Keyring) -> None:
    """It opens a notice and remembers its mails; it can neither see nor pretend what others have handled."""
    key = new_key()
    orchestrator = store_of("radera_orchestrator")
    StoredKeys(orchestrator, keyring).insert("r", key)
    StoredSent(orchestrator, "orchestrator").record("theirs")
    store = store_of("radera_mailbox")
    sent = SentMails(store)
    assert ["ours", "ours"] == [sent.claim("mine", 60), sent.claim("other", 60)]
    sent.record("mine")
    sent.record("mine")
    sent.release("other")
    assert "sent" == SentMails(store).claim("mine", 60)

    assert key == StoredKeys(store, keyring).key_of("r")
    assert sent.seen("mine")
    assert StoredSent(orchestrator, "mailbox").seen("mine")
    assert not StoredSent(store, "orchestrator").seen("theirs")
    notes = TopicNotes(store)
    notes.add("mailbox", {"t/a"})
    assert {"t/a"} == notes.of("mailbox")
    for attempt in (
        lambda: StoredSent(store, "orchestrator").record("an event to come"),
        lambda: notes.add("worker", {"t/a"}),
        lambda: store.saga("r"),
        lambda: StoredKeys(store, keyring).insert("s", new_key()),
    ):
        with pytest.raises(NotAllowed):
            attempt()


def test_serving(store_of: Callable[[str], Store], keyring: Keyring) -> None:
    """HTTP files keys, remembers links and shows requests; it can't decide one, or destroy its key."""
    orchestrator = store_of("radera_orchestrator")
    with orchestrator.begin() as tx:
        tx.save([saga("r")])
    store = store_of("radera_serve")
    keys, links = StoredKeys(store, keyring), StoredSent(store, "links")
    key = new_key()
    links.record("l")

    assert "new" == keys.insert("r", key)
    assert "known" == keys.insert("r", new_key())
    assert key == keys.key_of("r")
    assert links.seen("l")
    assert saga("r") == store.saga("r")
    assert store.verify_timeline("r").is_intact

    def save() -> None:
        with store.begin() as tx:
            tx.save([saga("r", version=2)])

    for attempt in (
        save,
        lambda: keys.destroy("r"),
        lambda: StoredSent(store, "orchestrator").record("an event to come"),
        lambda: store.unsent(1),
    ):
        with pytest.raises(NotAllowed):
            attempt()


def test_what_is_taken_in(store_of: Callable[[str], Store]) -> None:
    """HTTP puts it into the outbox, as often as it comes; the orchestrator relays it."""
    taken = Outbox(store_of("radera_serve"))
    record = Record(topic=topics.callbacks("hubspot"), key="r", value=b"sealed", headers=(("ce_id", b"c"),))
    for _ in range(2):
        taken.publish([record])
    orders: list[int] = []

    def word(order: int, at: int) -> Record:
        orders.append(order)
        return record

    for _ in range(2):
        taken.publish_word("r", "tenant", word)

    assert [NOW, NOW + 1] == orders
    with store_of("radera_orchestrator").relay(10) as records:
        assert [(record.topic, record.key, record.value, record.headers)] * 4 == [
            (one.topic, one.key, one.value, one.headers) for one in records
        ]


@pytest.mark.parametrize(
    "change",
    [
        {"topic": topics.commands("hubspot")},
        {"topic": topics.CONFIRMATIONS},
        {"topic": topics.OUTCOMES},
        {"topic": topics.dead_letters(topics.callbacks("hubspot"))},
        {"topic": topics.dead_letters(topics.REQUESTS)},
        {"topic": "erasure.callbacks.hubspot"},
        {"topic": f"x{topics.callbacks('hubspot')}"},
        {"event_id": "an id that the orchestrator will want"},
        {"value": b"x" * 900_000},
    ],
)
def test_what_must_not_be_taken_in(store_of: Callable[[str], Store], change: dict[str, Any]) -> None:
    """Whoever got hold of the HTTP process commands no handler, and stops no record of others'."""
    fit = Outgoing(event_id="taken:1", topic=topics.REQUESTS, key="r", value=b"sealed")

    for row, expected in ((fit, nullcontext()), (replace(fit, **change), pytest.raises(NotAllowed))):
        with expected, store_of("radera_serve").begin() as tx:
            tx.enqueue([row])


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "",
        "{}",
        '["a"]',
        '["a", 1]',
        '["a", "b", ]',
        '["a", "b\\ud800"]',
        '["a", "\u20ac"]',
        '["a", "\\"]',
    ],
)
def test_headers_that_nobody_could_read_are_not_taken_in(store_of: Callable[[str], Store], text: str) -> None:
    """Only what the orchestrator can read and the bus takes."""
    statement = sa.text(
        "INSERT INTO outbox (event_id, topic, key, headers, value, created_at, shard) "
        "VALUES ('taken:1', 'erasure.requests.v1', '', :headers, '', 1, 0)"
    )
    store = store_of("radera_serve")
    for headers, expected in (('["a", "b"]', nullcontext()), (text, pytest.raises(NotAllowed))):
        with expected, store.engine.begin() as connection:
            connection.execute(statement, {"headers": headers})
            connection.rollback()


def test_headers_of_all_kinds_are_taken_in(store_of: Callable[[str], Store]) -> None:
    """Whatever bytes they have, and as many as there are; and a handler's kind as it may be named."""
    fits = tuple(
        Outgoing(
            event_id=f"taken:{n}", topic=topics.callbacks(kind), key="r", value=b"sealed", headers=headers
        )
        for n, (kind, headers) in enumerate(
            (
                ("hubspot", ()),
                ("7-our.own_crm", (("a", b""),)),
                (
                    "a",
                    (("ce_id", bytes(range(256))), ("traceparent", b"00-ab-cd-01"), ("e", b'"\\[],')),
                ),
            )
        )
    )
    with store_of("radera_serve").begin() as tx:
        tx.enqueue(fits)
    with store_of("radera_orchestrator").relay(10) as records:
        assert {one.event_id: one for one in fits} == {one.event_id: one for one in records}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(event_id) FROM outbox",
        "UPDATE outbox SET value = ''",
        "DELETE FROM outbox",
        "INSERT INTO outbox VALUES (1, 'taken:1', 'erasure.requests.v1', '', '[]', '', 1, 0)",
    ],
)
def test_what_is_in_the_outbox_is_the_orchestrators(store_of: Callable[[str], Store], statement: str) -> None:
    """Who takes in can't look at it, take it back, change it, or put itself in front."""
    store = store_of("radera_serve")

    with pytest.raises(NotAllowed), store.engine.begin() as connection:
        connection.exec_driver_sql(statement)


def test_what_controllers_ask(store_of: Callable[[str], Store]) -> None:
    """HTTP keeps it, once for an id, and one of two processes tells an address; nobody else may look. The
    orchestrator throws away what was never published.
    """
    register, asked = AskedRequests(store_of("radera_serve")), asked_of("r", "one")
    assert asked == register.file(asked, [b"address", b"another"])
    assert asked == register.file(asked_of("r", "two"), [b"third"])
    assert None is register.find("s")
    assert [] == register.due(NOW, 10, 10**9)
    register.mark_published("r", NOW)
    register.mark_published("r", NOW + 1)
    assert replace(asked, published_at=NOW) == register.find("r")

    first, second = register.due(NOW, 10, 10**9)
    assert [b"address", b"another"] == [first.address, second.address]
    held = register.claim(first, NOW + 60)
    assert held is not None
    assert None is register.claim(first, NOW + 60)
    register.failed(held, NOW + 90)
    register.told(second, "in_progress", None)
    assert [] == register.due(NOW + 89, 10, 10**9)
    [again] = register.due(NOW + 90, 10, 10**9)
    assert (1, None) == (again.tries, again.told)
    with pytest.raises(NotAllowed):
        AskedRequests(store_of("radera_worker")).find("r")
    with pytest.raises(NotAllowed):
        register.purge_unpublished(NOW + 1)

    register.file(asked_of("s", "one"), [b"address"])
    orchestrator = AskedRequests(store_of("radera_orchestrator"))
    assert 1 == orchestrator.purge_unpublished(NOW + 1)
    assert (None, "one") == (register.find("s"), getattr(register.find("r"), "body", None))


def asked_of(request_id: str, body: str) -> Asked:
    """What a controller asked just now."""
    return Asked(
        request_id=request_id,
        system="tenant",
        subject_request_id="theirs",
        version="2",
        body=body,
        received_at=NOW,
        expected_at=NOW,
    )
