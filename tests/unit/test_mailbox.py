"""The mailbox role: each outcome one mail, whatever fails, and nothing of a person but the To of a notice."""

from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest
from typing_extensions import override

from orchestrator.bus.port import Delivery, Record
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.mailbox import dpo
from orchestrator.mailbox.mailbox import Mailbox
from orchestrator.metrics import Metrics
from orchestrator.privacy.identifiers import Identifier, Identifiers, Kind
from orchestrator.privacy.keys import KeyDestroyed, KeyUnknown
from orchestrator.privacy.sealing import IDENTIFIERS, new_key, seal
from orchestrator.settings import Dpo, Installation, Notices, Settings, Smtp, System
from orchestrator.smtp import Leave, MailDeferred, MailRefused, always
from orchestrator.smtp.message import wire
from orchestrator.store import SentMails, Store, open_engine
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Confirmation, Outcome

SECOND = 1_000_000
MINUTE = 60 * SECOND
NOW = 1_788_211_800_000_000
REQUEST = "7d9f4c1e-0000-4000-8000-000000000001"
PERSON = "canary.person@example.org"
DPO = "dpo@example.com"


class Postman:
    """A mailer that keeps what it sends, and fails as told: each entry of `trouble` answers one call."""

    def __init__(self) -> None:
        self.sent: list[tuple[EmailMessage, str]] = []
        self.calls = 0
        self.trouble: list[Exception | None] = []
        self.always: Callable[[str], Exception | None] = lambda recipient: None

    def send(self, message: EmailMessage, recipient: str, may_send: Leave = always) -> None:
        self.calls += 1
        error = (self.trouble.pop(0) if self.trouble else None) or self.always(recipient)
        if error is not None:
            raise error
        self.sent.append((message, recipient))


class Keys:
    """The keys of open requests."""

    def __init__(self) -> None:
        self.of: dict[str, bytes] = {REQUEST: new_key()}
        self.destroyed: set[str] = set()

    def key_of(self, request_id: str) -> bytes:
        if request_id in self.destroyed:
            raise KeyDestroyed(request_id)
        if request_id not in self.of:
            raise KeyUnknown(request_id)
        return self.of[request_id]


class World:
    """A mailbox with a bus and a store of its own, a clock that stands still, and a postman."""

    def __init__(self, *, most_held: int = 100, notices: Notices | None = None) -> None:
        self.now = NOW
        self.engine = open_engine("sqlite://")
        self.bus = SqliteBus(self.engine, lambda: self.now)
        self.store = Store(self.engine, lambda: self.now)
        self.sent = SentMails(self.store)
        self.keys = Keys()
        self.postman = Postman()
        self.metrics = Metrics()
        self.settings = Settings(
            installation=Installation(
                name="Example", domain="radera.example.com", public_url="https://radera.example.com"
            ),
            dpo=Dpo(address=DPO),
            smtp=Smtp(host="mail.example.com", sender="radera@example.com"),
            notices=Notices() if notices is None else notices,
            systems={"crm": System(kind="crm", title="The CRM")},
        )
        self.most_held = most_held
        self.mailbox = self.restarted()

    def restarted(self) -> Mailbox:
        """Another mailbox, as after a death."""
        self.mailbox = Mailbox(
            bus=self.bus,
            mailer=self.postman,
            keys=self.keys,
            sent=self.sent,
            seal=lambda data: b"sealed" + bytes(byte ^ 0x5A for byte in data),
            settings=self.settings,
            clock=lambda: self.now,
            metrics=self.metrics,
            most_held=self.most_held,
        )
        return self.mailbox

    def publish(self, outcome: Outcome) -> None:
        self.bus.publish([Record(topic=topics.OUTCOMES, key=outcome.request_id, value=encode(outcome))])

    def step(self, later: int = 0) -> int:
        self.now += later
        return self.mailbox.step(0.0)

    def deliveries(self, topic: str) -> list[Delivery]:
        with self.bus.subscribe("test", [topic]) as subscription:
            return subscription.poll(0.0, 100)

    def confirmations(self) -> list[Confirmation]:
        return [decode(one.value, Confirmation) for one in self.deliveries(topics.CONFIRMATIONS)]

    def unread(self) -> int:
        """How many outcomes another mailbox would get, had this one died."""
        self.mailbox.close()
        with self.bus.subscribe("mailbox", [topics.OUTCOMES]) as subscription:
            return len(subscription.poll(0.0, 100))


def outcome(event_id: str = "o-1", **changed: Any) -> Outcome:
    given: dict[str, Any] = {
        "event_id": event_id,
        "request_id": REQUEST,
        "kind": "completed",
        "occurred_at": NOW,
        "status": "completed",
        "received_at": NOW - 86_400 * SECOND,
        "due_at": NOW + 86_400 * SECOND,
        "timeline_head": "9f" * 32,
    }
    return Outcome(**(given | changed))


def notice(
    world: World, event_id: str = "n-1", *, kinds: tuple[Kind, ...] = ("email",), **changed: Any
) -> Outcome:
    values: dict[Kind, str] = {"email": PERSON, "phone": "+46701740605"}
    items = tuple(Identifier(kind, values[kind]) for kind in kinds)
    sealed = seal(world.keys.of[REQUEST], REQUEST, IDENTIFIERS, Identifiers(items).to_bytes())
    given = {"kind": "notice", "code": "acted", "sealed_identifiers": sealed, "status": "in_progress"}
    return outcome(event_id, **(given | changed))


def test_an_outcome_becomes_one_mail_to_the_dpo() -> None:
    """Sent, recorded and acknowledged; its subject names the request by its id."""
    world = World()
    world.publish(outcome())

    assert 1 == world.step()
    ((message, recipient),) = world.postman.sent
    assert (DPO, f"Radera {REQUEST}: completed") == (recipient, message["Subject"])
    assert world.sent.seen("o-1")
    assert 0 == world.unread()


def test_an_outcome_that_was_mailed_before_is_not_mailed_again() -> None:
    """A death after recording and before acknowledging costs nothing."""
    world = World()
    world.sent.record("o-1")
    world.publish(outcome())

    assert 1 == world.step()
    assert [] == world.postman.sent
    assert 0 == world.unread()


def test_all_mails_about_a_request_are_one_thread_and_each_is_always_itself() -> None:
    """A repeat has the same Message-ID; two events have two, and both refer to the request's own."""
    world = World()
    world.publish(outcome("o-1"))
    world.publish(outcome("o-2"))
    world.step()
    again = World()
    again.publish(outcome("o-1"))
    again.step()
    first, second = (message for message, _ in world.postman.sent)

    assert again.postman.sent[0][0]["Message-ID"] == first["Message-ID"]
    assert second["Message-ID"] != first["Message-ID"]
    assert first["References"] == second["References"] == f"<{REQUEST}@radera.example.com>"
    assert "auto-generated" == first["Auto-Submitted"]


def test_a_mail_that_was_put_off_is_tried_again_with_growing_waits() -> None:
    """Not before its time, unacknowledged in the meantime, and for as long as it takes."""
    world = World()
    world.postman.trouble = [MailDeferred("recipient", 450)] * 3
    world.publish(outcome())
    world.step()
    calls = [world.postman.calls]
    for later in (MINUTE - 1, 1, 2 * MINUTE - 1, 1, 4 * MINUTE - 1):
        world.step(later)
        calls.append(world.postman.calls)

    assert [1, 1, 2, 2, 3, 3] == calls
    assert [] == world.postman.sent
    assert 1 == world.step(1)
    assert 1 == len(world.postman.sent)
    assert 0 == world.unread()


def test_a_mail_that_was_put_off_survives_a_death() -> None:
    """It is not acknowledged, so the next mailbox gets it."""
    world = World()
    world.postman.trouble = [MailDeferred("recipient", 450)]
    world.publish(outcome())
    world.step()
    world.mailbox.close()
    world.restarted()

    assert 1 == world.step()
    assert 1 == len(world.postman.sent)


def test_one_put_off_mail_does_not_hold_up_the_others() -> None:
    """The subject's server is busy; the officer's mail goes."""
    world = World()
    world.postman.always = lambda recipient: MailDeferred("recipient", 450) if recipient == PERSON else None
    world.publish(notice(world))
    world.publish(outcome())

    assert 1 == world.step()
    assert [DPO] == [recipient for _, recipient in world.postman.sent]


def test_a_server_that_is_away_is_asked_by_one_mail_at_a_time() -> None:
    """A hundred mails don't wait out a hundred time limits; all go once it is back."""
    world = World()
    world.postman.always = lambda _: MailDeferred("unreachable")
    for number in range(10):
        world.publish(outcome(f"o-{number}"))
    world.step()
    world.step(MINUTE)

    assert 2 == world.postman.calls
    world.postman.always = lambda _: None
    assert 10 == world.step(2 * MINUTE)
    assert 10 == len(world.postman.sent)


def test_no_more_are_taken_than_can_be_held() -> None:
    """What is not taken stays on the bus, and comes when there is room."""
    world = World(most_held=2)
    world.postman.always = lambda _: MailDeferred("recipient", 450)
    for number in range(5):
        world.publish(outcome(f"o-{number}"))
    world.step()
    world.step()

    assert 2 == world.postman.calls
    world.postman.always = lambda _: None
    assert 5 == world.step(MINUTE) + world.step() + world.step()


class Unrecorded(SentMails):
    """Fails to record for the first `failures` times: the database is away."""

    failures = 0

    @override
    def record(self, event_id: str) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("away")
        super().record(event_id)


def test_a_mail_that_was_sent_and_not_recorded_is_recorded_before_anything_is_acknowledged() -> None:
    """Or a copy of the outcome, which the relay may publish after a death of its own, would be mailed
    again.
    """
    world = World()
    world.sent = sent = Unrecorded(world.store)
    sent.failures = 1
    world.restarted()
    world.publish(outcome())

    assert [0, 1] == [world.step(), world.step(MINUTE)]
    world.publish(outcome())
    assert 1 == world.step()
    assert 1 == len(world.postman.sent)


def test_what_went_to_another_mailbox_is_the_others_to_send() -> None:
    """A mail was put off, and its partition moved: both would send it, and neither was killed."""
    world = World()
    world.postman.trouble = [MailDeferred("recipient", 450)]
    world.publish(outcome())
    world.step()
    subscription = world.mailbox._subscription  # the group's doing has no door
    assert subscription is not None
    lost = list(subscription._held.values())  # type: ignore[attr-defined] # the embedded bus, as it is inside
    subscription._held.clear()  # type: ignore[attr-defined] # as above

    assert 0 == world.step(MINUTE)
    assert (1, []) == (world.postman.calls, world.postman.sent)
    assert 1 == len(lost)


def test_the_rest_of_a_batch_is_not_sent_when_its_partition_goes_meanwhile() -> None:
    """Partitions move in the library's own thread, while mails are sent one after the other: the other
    mailbox begins at once, and all that this one had in hand would go twice.
    """
    world = World()
    for number in range(3):
        world.publish(outcome(f"o-{number}"))

    def lose(recipient: str) -> None:
        world.mailbox._subscription._held.clear()  # type: ignore[union-attr] # the group's doing has no door

    world.postman.always = lose
    world.step()
    assert 1 == len(world.postman.sent)


def test_the_bus_is_asked_again_whose_the_rest_is_after_a_turn() -> None:
    """Only a poll tells that a partition has gone. A process that was stopped while it sent, and woken when
    another had its share, would else send all that it had in hand, mail for mail with the other.
    """
    world = World()
    for number in range(4):
        world.publish(outcome(f"o-{number}"))

    def stopped_and_woken(recipient: str) -> None:
        world.now += 30 * SECOND

    world.postman.always = stopped_and_woken
    assert 1 == world.step()
    subscription: Any = world.mailbox._subscription
    polled = subscription.poll

    def poll(timeout: float, most: int) -> list[Delivery]:
        subscription._held.clear()  # the group's doing has no door
        return []

    subscription.poll = poll
    assert 0 == world.step()
    assert 1 == world.postman.calls
    subscription.poll = polled


def test_another_outcome_at_a_held_ones_place() -> None:
    """The topic was made anew, and its offsets began again: the new outcome is mailed like any other."""
    world = World()
    world.postman.trouble = [MailDeferred("recipient", 450)]
    world.publish(outcome())
    world.step()
    subscription = world.mailbox._subscription
    assert subscription is not None
    ((place, first),) = subscription._held.items()  # type: ignore[attr-defined] # the embedded bus, as it is inside
    other = replace(first, mark="another", value=encode(outcome(event_id="another")))
    subscription._held[place] = other  # type: ignore[attr-defined] # as above
    polled, subscription.poll = subscription.poll, lambda timeout, most: [other]  # type: ignore[assignment,method-assign] # the group's doing

    assert 1 == world.step()
    subscription.poll = polled  # type: ignore[method-assign] # back to what it was
    assert (True, False) == (world.sent.seen("another"), subscription.holds(other))


def test_a_mail_that_was_put_off_is_acknowledged_as_it_came_last() -> None:
    """Its partition went and came back: only the later delivery counts, and the group would stand still."""
    world = World()
    world.postman.trouble = [MailDeferred("recipient", 450)]
    world.publish(outcome())
    world.step()
    subscription = world.mailbox._subscription
    assert subscription is not None
    ((place, first),) = subscription._held.items()  # type: ignore[attr-defined] # as above
    again = replace(first)
    subscription._held[place] = again  # type: ignore[attr-defined] # as above
    polled, subscription.poll = subscription.poll, lambda timeout, most: [again]  # type: ignore[assignment,method-assign] # the group's doing

    assert 1 == world.step(MINUTE)
    subscription.poll = polled  # type: ignore[method-assign] # back to what it was
    assert not subscription.holds(again)


def test_a_mail_to_the_dpo_that_is_refused_is_tried_again_and_shown_as_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody else would hear of the outcome, so it is never given up; but slowly."""
    world = World()
    world.postman.trouble = [MailRefused("recipient", 550)]
    world.publish(outcome())
    world.step()
    world.step(360 * MINUTE - 1)

    assert 1 == world.postman.calls
    assert 1 == world.step(1)
    assert ["dpo_mail_refused"] == [r.message for r in caplog.records if r.levelname == "ERROR"]
    assert (
        'radera_mails_total{about="completed",result="refused",to="dpo"} 1.0' in world.metrics.text().decode()
    )


def test_a_notice_goes_to_the_subject_and_is_confirmed() -> None:
    """The person's address is in the To and nowhere else; the saga hears that they were told."""
    world = World()
    world.publish(notice(world))

    assert 1 == world.step()
    ((message, recipient),) = world.postman.sent
    assert PERSON == recipient
    assert DPO == message["Reply-To"]
    data = wire(message, PERSON)
    assert 1 == data.count(PERSON.encode())
    assert f"To: {PERSON}\r\n".encode() in data
    (confirmation,) = world.confirmations()
    assert ("notice_sent", "n-1", None, REQUEST) == (
        confirmation.kind,
        confirmation.command_id,
        confirmation.system,
        confirmation.request_id,
    )


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda world: notice(world, kinds=("phone",)), "no_address"),
        (lambda world: notice(world, sealed_identifiers=None), "no_address"),
        (lambda world: notice(world, sealed_identifiers=b"\x01" + b"x" * 60), "unreadable_identifiers"),
        (lambda world: notice(world, code="no_such_purpose"), "no_such_notice"),
    ],
)
def test_a_notice_that_can_never_be_sent_is_confirmed_as_failed(
    spoil: Callable[[World], Outcome], code: str
) -> None:
    """The DPO must inform the person in another way, and hears it from the saga."""
    world = World()
    world.publish(spoil(world))
    world.step()
    (confirmation,) = world.confirmations()

    assert ("notice_failed", code, False) == (confirmation.kind, confirmation.code, confirmation.retryable)
    assert [] == world.postman.sent
    assert 0 == world.unread()


def test_a_notice_whose_key_is_destroyed_is_confirmed_as_failed() -> None:
    """The request has ended; nobody can read the address any more."""
    world = World()
    world.publish(notice(world))
    world.keys.destroyed.add(REQUEST)
    world.step()

    assert ["key_destroyed"] == [one.code for one in world.confirmations()]


def test_a_refused_notice_is_confirmed_as_failed_and_not_tried_again() -> None:
    """The server knows no such mailbox; the officer decides what to do."""
    world = World()
    world.postman.trouble = [MailRefused("recipient", 550)]
    world.publish(notice(world))
    world.step()
    world.step(10_000 * MINUTE)

    assert [("notice_failed", "refused")] == [(one.kind, one.code) for one in world.confirmations()]
    assert 1 == world.postman.calls


def test_what_became_of_a_notice_is_an_event_of_its_own() -> None:
    """A mailbox that died after it said "failed" may send it after all. Taken for a repeat, "sent" would be
    dropped, and the officer would tell the person a second time; "sent" said twice is one event.
    """
    ids = []
    for trouble in (MailRefused("recipient", 550), None, None):
        world = World()
        world.postman.trouble = [trouble]
        world.publish(notice(world))
        world.step()
        ids += [one.event_id for one in world.confirmations()]
    failed, sent, sent_again = ids

    assert failed != sent
    assert sent == sent_again


def test_a_notice_waits_for_a_key_that_is_not_filed_yet() -> None:
    """The outcome overtook its request's key; it is tried again, not given up."""
    world = World()
    world.publish(notice(world))
    key = world.keys.of.pop(REQUEST)
    world.step()
    assert [] == world.confirmations()
    world.keys.of[REQUEST] = key

    assert 1 == world.step(MINUTE)
    assert ["notice_sent"] == [one.kind for one in world.confirmations()]


def test_no_notice_is_mailed_where_the_installation_mails_none() -> None:
    """The setting holds even if a notice is asked for."""
    world = World(notices=Notices(subject="none"))
    world.publish(notice(world))
    world.step()

    assert [] == world.postman.sent
    assert ["notices_off"] == [one.code for one in world.confirmations()]


def test_a_notice_is_confirmed_again_but_not_mailed_again_when_the_bus_was_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sent and recorded, then publishing fails: the repeat confirms under the same event id."""
    world = World()
    world.publish(notice(world))
    publish = world.bus.publish

    def unavailable(records: object) -> None:
        from orchestrator.bus.port import BusUnavailable

        raise BusUnavailable

    monkeypatch.setattr(world.bus, "publish", unavailable)
    assert 0 == world.step()
    monkeypatch.setattr(world.bus, "publish", publish)
    world.mailbox.close()
    world.restarted()

    assert 1 == world.step()
    assert 1 == len(world.postman.sent)
    assert ["notice_sent"] == [one.kind for one in world.confirmations()]


def test_a_mail_whose_recording_fails_is_not_sent_again_by_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store is away for a moment after the mail went."""
    world = World()
    world.publish(outcome())
    record = world.sent.record
    troubles = [RuntimeError("locked")]

    def failing(event_id: str) -> None:
        if troubles:
            raise troubles.pop()
        record(event_id)

    monkeypatch.setattr(world.sent, "record", failing)
    assert 0 == world.step()
    assert 1 == world.step(MINUTE)
    assert 1 == len(world.postman.sent)


def test_an_outcome_nobody_can_read_is_put_aside_sealed() -> None:
    """It goes to the dead letters with its code and origin, and the mailbox goes on."""
    world = World()
    world.bus.publish([Record(topic=topics.OUTCOMES, key=PERSON, value=PERSON.encode())])
    world.publish(outcome())

    assert 2 == world.step()
    (dead,) = world.deliveries(topics.dead_letters(topics.OUTCOMES))
    assert b"malformed_message" == dead.header("radera-code")
    assert PERSON.encode() not in dead.value
    assert "" == dead.key
    assert 1 == len(world.postman.sent)


def test_an_outcome_that_cannot_be_put_into_words_is_mailed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fault in the text must not keep the officer from hearing of it."""
    world = World()
    world.publish(outcome())

    def broken(*_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(dpo, "render", broken)

    assert 1 == world.step()
    ((message, _),) = world.postman.sent
    assert f"radera status {REQUEST}" in message.get_content()


def test_nothing_about_a_person_reaches_the_log_the_metrics_or_the_dpo(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever becomes of a notice, its address stays in its To."""
    caplog.set_level("DEBUG")
    for trouble in (MailDeferred("recipient", 450), MailRefused("recipient", 550), RuntimeError("?"), None):
        world = World()
        world.postman.trouble = [trouble]
        world.publish(notice(world))
        world.publish(outcome())
        world.step()
        mails = [wire(message, to) for message, to in world.postman.sent if to == DPO]
        everything = world.metrics.text() + b"".join(mails) + repr(world.confirmations()).encode()
        assert b"canary" not in everything
    assert "canary" not in caplog.text + repr(
        [vars(record) for record in caplog.records if not record.exc_info]
    )
