"""That no clock is silent: who has not been acted for in time, somebody was warned of.

Checked when everybody has done all that there is to do, so that whoever was down has started again by then.
The dates are counted by a calendar of our own. Whether a person was acted for is judged by what the vendors
hold, not by what the product believes.
"""

import calendar
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import holidays

from orchestrator.saga.model import Ended, Saga, Step
from schemas import topics
from schemas.messages import Confirmation
from tests.simulation import installation
from tests.simulation.history import read
from tests.simulation.people import Person
from tests.simulation.robots import Requester
from tests.simulation.violations import expect
from tests.simulation.world import World

HOUR = 3_600_000_000
WARNING = 7 * 24 * HOUR
_ZONE = ZoneInfo("Europe/Stockholm")
_HOLIDAYS = holidays.country_holidays("SE")


def due_at(received_at: int, months: int) -> int:
    """Regulation 1182/71, counted once more, in another way than the product does."""
    day = datetime.fromtimestamp(received_at / 1e6, _ZONE).date()
    year, month = day.year + (day.month + months - 1) // 12, (day.month + months - 1) % 12 + 1
    due = date(year, month, min(day.day, calendar.monthrange(year, month)[1]))
    while due.isoweekday() > 5 or due in _HOLIDAYS:
        due += timedelta(days=1)
    after = due + timedelta(days=1)
    midnight = datetime(after.year, after.month, after.day, tzinfo=_ZONE)
    return int(midnight.astimezone(UTC).timestamp()) * 1_000_000 - 1


class Clocks:
    """Hears which alarms are raised, and says which should have been."""

    def __init__(self, world: World, requester: Requester) -> None:
        self._world = world
        self._requester = requester
        self._raised: set[tuple[str, int, str]] = set()
        self._checked_at = 0
        world.on_commit.append(self._saved)

    def _saved(self, saga: Saga) -> None:
        for one in saga.escalations:
            if one.reason in ("deadline_near", "overdue"):
                self._raised.add((saga.request_id, saga.due_at, one.reason))

    def check(self, now: int) -> None:
        """Nobody has anything to do: every alarm that is due has been raised."""
        for saga in self._world.sagas.values():
            if saga.is_finished:
                continue
            due = due_at(saga.received_at, 3 if saga.extended else 1)
            if now <= due - WARNING + HOUR or (saga.acted_at is not None and self._is_acted_for(saga)):
                continue
            key = (saga.request_id, saga.due_at)
            warned = bool(self._raised & {(*key, "deadline_near"), (*key, "overdue")})
            expect(warned, "clocks", f"a request that is {_how(saga)} has no warning of its date")
            overdue = now <= due + HOUR or (*key, "overdue") in self._raised
            expect(overdue, "clocks", f"a request that is {_how(saga)} is overdue, and nobody was told")

    def _is_acted_for(self, saga: Saga) -> bool:
        """Whether, in each system, nothing that the product has seen there is there any more."""
        asked = next((one for one in self._requester.asked if one.request_id == saga.request_id), None)
        return asked is None or all(self._is_done(saga, step, asked.person) for step in saga.steps)

    def _is_done(self, saga: Saga, step: Step, person: Person) -> bool:
        if isinstance(step.state, Ended):
            return True
        world, accounts = self._world, installation.VENDORS[step.system]
        seen = [
            one.occurred_at
            for one in read(world, topics.CONFIRMATIONS, Confirmation)
            if (one.request_id, one.system, one.kind) == (saga.request_id, step.system, "still_present")
        ]
        live = [
            line
            for line in world.sandbox.holds(person.email)
            if (line["vendor"], line["account"]) in accounts
            and (line["vendor"], line["record"]) in person.records
            and line["state"] == "live"
        ]
        effects = [
            line["at"]
            for line in world.sandbox.ledger()
            if (line["vendor"], line["record"]) in person.records and line["effect"].endswith("deleted")
        ]
        return not (live and seen and max(seen) > max(effects, default=0))


def _how(saga: Saga) -> str:
    """Its state, for the message."""
    return f"{saga.status}{' and quarantined' if saga.quarantined else ''}"
