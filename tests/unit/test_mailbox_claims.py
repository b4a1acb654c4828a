"""Two mailboxes that have the same outcome in hand: its partition moved, or one was stopped or killed."""

from orchestrator.mailbox.mailbox import ANSWERS
from orchestrator.smtp import MailDeferred
from orchestrator.store import SentMails
from tests.unit.test_mailbox import MINUTE, SECOND, World, outcome

#: How long a mail is claimed: thirteen answers of at most half a minute each.
CLAIM = ANSWERS * 30 * SECOND


def both() -> tuple[World, World]:
    """Two that share the database, and to each of which the outcome has come."""
    first, second = World(), World()
    second.store = first.store
    for world, name in ((first, "first"), (second, "second")):
        world.sent = SentMails(first.store, holder=name)
        world.restarted()
        world.publish(outcome())
    return first, second


def test_a_mail_that_is_being_handed_over_is_not_sent_by_another() -> None:
    """The partition moves in the middle of the hand-over: the other waits, and then finds it sent."""
    first, second = both()

    def meanwhile(recipient: str) -> None:
        assert 0 == second.step()

    first.postman.always = meanwhile
    assert 1 == first.step()
    assert 1 == second.step(MINUTE)
    assert (1, 0) == (first.postman.calls, second.postman.calls)
    assert 0 == second.unread()


def test_one_that_was_stopped_and_woken_asks_before_it_sends() -> None:
    """It has not heard yet that its share is another's, and that other has sent the mail."""
    first, second = both()
    first.postman.trouble = [MailDeferred("recipient", 450)]
    assert 0 == first.step()
    assert 1 == second.step()

    assert 1 == first.step(MINUTE)
    assert [[], 1] == [first.postman.sent, len(second.postman.sent)]


def test_the_mail_of_one_that_was_killed_goes_again_when_its_claim_has_ended() -> None:
    """Nobody knows whether it was sent, so it goes; but not while it may be on its way yet."""
    first, second = both()
    assert "ours" == first.sent.claim("o-1", CLAIM)
    steps = []
    for later in (0, MINUTE, 2 * MINUTE, CLAIM - 3 * MINUTE - 1, 1, MINUTE):
        first.now += later  # the store's clock
        steps.append(second.step(later))

    assert [0, 0, 0, 0, 0, 1] == steps
    assert 1 == len(second.postman.sent)
    assert "sent" == first.sent.claim("o-1", CLAIM)


def test_a_mail_that_was_put_off_is_anybodys() -> None:
    """Its partition moves while it waits for its next try: the other need not wait for the claim to end."""
    first, second = both()
    first.postman.trouble = [MailDeferred("recipient", 450)]
    assert 0 == first.step()

    assert 1 == second.step()
    assert 1 == len(second.postman.sent)


def test_a_mail_that_went_and_is_not_recorded_yet_stays_in_hand() -> None:
    """The database is away when it is to be recorded: let go, it would be sent by the other mailbox too."""
    first, second = both()
    record = first.sent.record

    def away(event_id: str) -> None:
        raise RuntimeError("away")

    first.sent.record = away  # type: ignore[method-assign] # the database's doing
    assert 0 == first.step()
    assert (0, 1) == (second.step(), first.postman.calls)
    first.sent.record = record  # type: ignore[method-assign] # back to what it was
    assert 1 == first.step(MINUTE)
    assert (1, 0) == (second.step(MINUTE), second.postman.calls)


def test_a_mail_that_went_is_recorded_though_its_partition_went_too() -> None:
    """Only who sent it knows that it went; the one who has the partition now would send it again."""
    first, second = both()
    record, away = first.sent.record, [True]

    def sometimes(event_id: str) -> None:
        if away:
            away.pop()
            raise RuntimeError("away")
        record(event_id)

    first.sent.record = sometimes  # type: ignore[method-assign] # the database's doing
    assert 0 == first.step()
    first.mailbox._subscription._held.clear()  # type: ignore[union-attr] # the group's doing has no door
    first.step(MINUTE)
    assert "sent" == SentMails(first.store, holder="third").claim("o-1", SECOND)
    assert (1, 1, 0) == (second.step(MINUTE), first.postman.calls, second.postman.calls)


def test_what_went_to_another_takes_no_room() -> None:
    """Else a mailbox whose partitions come and go would in the end take nothing at all."""
    world = World(most_held=1)
    world.postman.trouble = [MailDeferred("recipient", 450)]
    world.publish(outcome("o-1"))
    world.publish(outcome("o-2"))
    assert 0 == world.step()
    world.mailbox._subscription._held.clear()  # type: ignore[union-attr] # the group's doing has no door
    assert [0, 1] == [world.step(), world.step()]
    assert 1 == len(world.postman.sent)


def test_a_notice_that_is_not_sent_is_nobodys() -> None:
    """It can never be sent, so that there is nothing to record; its claim does not stay for ever."""
    world = World()
    world.publish(outcome(kind="notice", code="acted", sealed_identifiers=None, status="in_progress"))
    assert 1 == world.step()

    assert "ours" == SentMails(world.store, holder="another").claim("o-1", SECOND)


def test_a_mail_counts_more_than_its_claim() -> None:
    """Database and mail server are away together: what the mail met holds, and the others wait with it."""
    world = World()
    world.postman.trouble = [MailDeferred("unreachable")]

    def gone(event_id: str) -> None:
        raise RuntimeError("away")

    world.sent.release = gone  # type: ignore[method-assign] # the database's doing
    world.publish(outcome("o-1"))
    world.publish(outcome("o-2"))
    assert (0, 1) == (world.step(), world.postman.calls)
    assert 2 == world.step(MINUTE)
