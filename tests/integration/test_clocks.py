"""A clock that jumps, under a whole installation: nothing waits for ever, and nothing is thrown away."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import roles as cli_roles
from orchestrator.saga.model import waits
from orchestrator.service.jumps import boottime
from orchestrator.smtp import MailDeferred
from schemas import topics
from tests.integration.installation import Installation, Postman, installed

SECOND = 1_000_000
DAY = 86_400 * SECOND
YEAR = {"days": 365}
BACK = {"days": -365}


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """One that has run for two hours."""
    with installed(tmp_path, monkeypatch) as one:
        run(one, hours=2)
        yield one


def run(installation: Installation, *, hours: int) -> None:
    """Time passes, and the house is kept."""
    for _ in range(6 * hours):
        installation.later(minutes=10)
        installation.keep_house()


def furthest(installation: Installation, request_id: str) -> int:
    """The furthest wait of a request, in days."""
    saga = installation.saga(request_id)
    return (max(until for _, until in waits(saga)) - installation.clock.now) // DAY


def figure(installation: Installation, name: str) -> float:
    """A metric as Prometheus reads it."""
    lines = installation.metrics.text().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


# --- alarms ---


@pytest.mark.parametrize("by", [YEAR, BACK, {"hours": 1}, {"hours": -1}])
def test_a_jump_is_alarmed(
    installation: Installation, caplog: pytest.LogCaptureFixture, by: dict[str, int]
) -> None:
    """In the log and in the metrics, forward and back, until the time returns."""
    installation.clock.set(**by)
    with caplog.at_level(logging.ERROR):
        installation.keep_house()
    [told] = [one for one in caplog.records if one.message == "clock_jumped"]
    assert installation.clock.set_by == told.__dict__["seconds"] * SECOND
    assert installation.clock.set_by == figure(installation, "radera_clock_ahead_seconds") * SECOND
    assert (1.0, 0.0) == tuple(
        figure(installation, name) for name in ("radera_clock_jumps_total", "radera_clock_plausible")
    )
    installation.clock.set(**{unit: -count for unit, count in by.items()})
    run(installation, hours=2)
    assert (0.0, 1.0) == tuple(
        figure(installation, name) for name in ("radera_clock_ahead_seconds", "radera_clock_plausible")
    )


def test_a_suspended_machine_is_no_jump(installation: Installation, caplog: pytest.LogCaptureFixture) -> None:
    """It was away for a week, and the steady clock knows."""
    installation.clock.now += 7 * DAY
    with caplog.at_level(logging.WARNING):
        installation.keep_house()
    assert "clock_jumped" not in caplog.text
    assert 1.0 == figure(installation, "radera_clock_plausible")


def test_a_start_under_an_earlier_time_is_alarmed(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    """The database knows when it was last."""
    installation.clock.set(**BACK)
    installation.restart()
    with caplog.at_level(logging.ERROR):
        installation.keep_house()
    assert "clock_jumped" in caplog.text


# --- waits ---


def test_no_step_waits_for_a_year(installation: Installation) -> None:
    """A clock one year ahead and back left a step waiting for 372 days."""
    request_id = installation.submit(("email", "a@people.example"), scope=("agency",))
    installation.systems.says["agency", "locate"] = [{"kind": "cannot_look"}]
    installation.systems.says["agency", "erase"] = [{"kind": "awaiting_party"}] * 4
    run(installation, hours=1)
    installation.clock.set(**YEAR)
    run(installation, hours=1)
    installation.clock.set(**BACK)
    installation.keep_house()
    assert furthest(installation, request_id) <= 14
    assert "awaiting_party" == installation.saga(request_id).steps[0].state.status


def test_no_step_waits_for_a_year_after_a_start(installation: Installation) -> None:
    """Also where the clock was put back while nothing ran."""
    request_id = installation.submit(("email", "a@people.example"), scope=("crm",))
    installation.systems.says["crm", "locate"] = [None]
    run(installation, hours=1)
    installation.clock.set(**YEAR)
    installation.keep_house()
    installation.clock.set(**BACK)
    installation.restart()
    installation.keep_house()
    assert furthest(installation, request_id) <= 14


def test_the_mailbox_is_not_silent_for_a_year(installation: Installation) -> None:
    """A mail that was put off under the clock that was ahead is tried again within minutes."""

    class Away(Postman):
        is_away = True

        def send(self, *mail: object) -> None:
            if self.is_away:
                raise MailDeferred("unreachable")
            super().send(*mail)  # type: ignore[arg-type]  # as they came

    postman = Away()
    installation.mailbox._mailer = postman
    installation.submit(("email", "a@people.example"), scope=("crm",), verified=False)
    installation.clock.set(**YEAR)
    installation.settle()
    assert [] == postman.sent
    postman.is_away = False
    installation.clock.set(**BACK)
    run(installation, hours=1)
    assert postman.sent


# --- what a jump alone has made due ---


def asked_agency(installation: Installation) -> str:
    """A request whose agency was asked, and has a week to answer."""
    request_id = installation.submit(("email", "a@people.example"), scope=("agency",))
    installation.systems.says["agency", "locate"] = [{"kind": "cannot_look"}]
    installation.systems.says["agency", "erase"] = [{"kind": "awaiting_party"}] * 9
    run(installation, hours=1)
    return request_id


def sent(installation: Installation, request_id: str) -> int:
    entries = installation.ground.store.timeline(request_id)
    return sum(entry.action == "command_sent" for entry in entries)


def hours(installation: Installation, count: int) -> None:
    """So many hours pass, two at a time."""
    for _ in range(0, count, 2):
        installation.later(hours=2)
        installation.keep_house()


def test_nobody_is_reminded_under_a_clock_that_is_ahead(installation: Installation) -> None:
    """The agency was reminded at once, and asked about a week later. The officer is warned of the period, by
    the clock as it is; when the time returns the warning goes, and the reminder comes when it is due.
    """
    request_id = asked_agency(installation)
    asked = sent(installation, request_id)
    state = installation.saga(request_id).steps[0].state
    installation.clock.set(**YEAR)
    hours(installation, 24)
    assert (asked, state) == (sent(installation, request_id), installation.saga(request_id).steps[0].state)
    assert ["overdue"] == installation.questions(request_id)
    installation.clock.set(**BACK)
    installation.keep_house()
    assert [] == installation.questions(request_id)
    assert asked == sent(installation, request_id)
    hours(installation, 24 * 14)
    assert asked < sent(installation, request_id)


def test_a_process_that_starts_under_it_reminds_nobody_either(installation: Installation) -> None:
    """The database knows of the jump."""
    request_id = asked_agency(installation)
    asked = sent(installation, request_id)
    installation.clock.set(**YEAR)
    installation.keep_house()
    installation.restart()
    installation.keep_house()  # the first thing that a process does
    hours(installation, 24)
    assert asked == sent(installation, request_id)


def test_what_was_held_goes_on_when_the_time_is_believed(installation: Installation) -> None:
    """It was put right, and not wrong: within the hour after the doubt the agency is reminded."""
    request_id = asked_agency(installation)
    asked = sent(installation, request_id)
    installation.clock.set(days=20)
    hours(installation, 24)
    assert asked == sent(installation, request_id)
    hours(installation, 24 * 6 + 2)
    assert 1.0 == figure(installation, "radera_clock_plausible")
    hours(installation, 2)
    assert asked < sent(installation, request_id)


def test_a_held_request_is_not_looked_at_all_the_time(installation: Installation) -> None:
    """It would keep others from being looked at; once an hour is enough."""
    request_id = asked_agency(installation)
    installation.clock.set(days=20)
    installation.keep_house()
    due = installation.ground.store.due(installation.clock.now, 9)
    assert [] == [saga.request_id for saga in due]
    installation.clock.now += 3600 * SECOND
    due = installation.ground.store.due(installation.clock.now, 9)
    assert [request_id] == [saga.request_id for saga in due]


def test_a_key_is_not_destroyed_by_a_jump(installation: Installation) -> None:
    """A worker still has a command in hand, and is given its time before the request ends."""
    installation.systems.says["crm", "locate"] = [None]
    request_id = installation.submit(("email", "a@people.example"), scope=("crm",))
    run(installation, hours=1)
    installation.clock.set(days=2)
    installation.keep_house()
    cancelled = installation.cli("decide", request_id, "cancel", "--reason", "withdrawn")
    assert 0 == cancelled.exit_code, cancelled.output
    run(installation, hours=2)
    assert "closing" == installation.saga(request_id).status
    assert installation.ground.keys.key_of(request_id)
    installation.clock.set(days=-2)
    installation.keep_house()
    hours(installation, 24)
    assert "cancelled" == installation.saga(request_id).status


# --- what is thrown away ---


def letters(installation: Installation) -> int:
    """How many dead letters of requests there are; to count them leaves no reader behind."""
    return len(list(installation.ground.bus.browse([topics.dead_letters(topics.REQUESTS)])))


def test_one_round_of_housekeeping_throws_nothing_away(installation: Installation) -> None:
    """It deleted unread dead letters, and the key of a request that was on its way."""
    installation.publish(topics.REQUESTS, b"nobody can read this", key="somebody")
    installation.settle()
    waiting = installation.request(("email", "a@people.example"))
    assert 1 == letters(installation)
    installation.clock.set(**YEAR)
    run(installation, hours=2)
    assert 1 == letters(installation)
    assert installation.ground.keys.key_of(waiting.request_id)


def test_a_start_under_a_clock_that_is_ahead_throws_nothing_away(installation: Installation) -> None:
    """Nobody saw it jump; it isn't plausible all the same."""
    waiting = installation.request(("email", "a@people.example"))
    installation.clock.set(**YEAR)
    installation.restart()
    run(installation, hours=24)
    assert installation.ground.keys.key_of(waiting.request_id)


def test_what_was_written_under_a_clock_that_was_behind_is_kept_as_long_as_ever(
    installation: Installation,
) -> None:
    """When the time returns it is a year old by its stamp, and was written yesterday."""
    installation.clock.set(**BACK)
    installation.keep_house()
    installation.publish(topics.REQUESTS, b"nobody can read this", key="somebody")
    installation.settle()
    waiting = installation.request(("email", "a@people.example"))
    run(installation, hours=2)
    installation.clock.set(**YEAR)
    run(installation, hours=3)
    assert 1.0 == figure(installation, "radera_clock_plausible")
    assert 1 == letters(installation)
    assert installation.ground.keys.key_of(waiting.request_id)


def test_the_house_is_kept_again_when_the_time_has_returned(installation: Installation) -> None:
    """Within two hours, and not when the year is over."""
    trimmed: list[int] = []
    installation.housekeeping._trim_bus = lambda messages, _: trimmed.append(messages)
    installation.clock.set(**YEAR)
    run(installation, hours=2)
    assert [] == trimmed
    installation.clock.set(**BACK)
    run(installation, hours=2)
    assert trimmed


# --- the day of receipt ---


@pytest.mark.parametrize("by", [YEAR, BACK])
def test_a_day_of_receipt_under_the_wrong_clock_is_a_question(
    installation: Installation, by: dict[str, int]
) -> None:
    """It names the day by the clock that was believed, and the DPO's word moves the dates there."""
    right = installation.clock.now
    installation.clock.set(**by)
    request_id = installation.submit(("email", "a@people.example"), scope=("agency",))
    installation.settle()
    installation.keep_house()
    request_id = installation.submit(("email", "b@people.example"), scope=("agency",))
    installation.settle()
    [one] = [one for one in installation.saga(request_id).escalations if one.reason == "receipt_in_doubt"]
    assert "2026-08-31" == one.code
    assert "or        2026-08-31" in installation.cli("status", request_id).output
    installation.clock.set(days=-by["days"])
    installation.keep_house()
    [one] = [one for one in installation.saga(request_id).escalations if one.reason == "receipt_in_doubt"]
    decided = installation.cli(
        *("decide", request_id, "verify", "--escalation", f"{one.id}@{one.version}", "--reason", "the log")
    )
    assert 0 == decided.exit_code, decided.output
    installation.settle()
    saga = installation.saga(request_id)
    assert "receipt_in_doubt" not in installation.questions(request_id)
    assert abs(saga.received_at - right) < DAY
    assert 30 <= (saga.due_at - right) // DAY <= 33
    assert {"overdue", "deadline_near"}.isdisjoint(installation.questions(request_id))


def test_the_first_request_after_the_jump_is_asked_about_too(installation: Installation) -> None:
    """The jump is seen in the transaction that opens it, and not at the next round."""
    installation.clock.set(**YEAR)
    request_id = installation.submit(("email", "a@people.example"), scope=("agency",))
    installation.settle()
    assert "receipt_in_doubt" in installation.questions(request_id)


# --- the roles ---


@pytest.mark.parametrize("part", ["Orchestrator", "Mailbox", "Clients", "Housekeeping"])
def test_the_roles_are_made_with_the_clock_that_nobody_sets(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The mailbox, the circuits and what waits for its request wait by it; the house is kept by the watch."""
    given: dict[str, Any] = {}
    real = getattr(cli_roles, part)

    def made(**wanted: Any) -> Any:
        given.update(wanted)
        return real(**wanted)

    monkeypatch.setattr(cli_roles, part, made)
    monkeypatch.setattr("orchestrator.cli.roles.Worker.run", lambda self, stop: None)
    roles = cli_roles.Roles(
        installation.ground, ["orchestrator", "worker", "mailbox"], on_fatal=lambda error: None
    )
    try:
        if part == "Clients":
            next(loop for loop in roles._loops if loop.name == "worker")._step()
        if part == "Housekeeping":
            assert not given["is_plausible"]()
        else:
            assert boottime is given["steady"]
    finally:
        roles.server.stop()
