"""A person with more records at one vendor than one attempt can go through is erased and proved, within the
vendor's limits.

Saga, worker, handler and stand-in are the real ones; the clock moves only when somebody waits. An attempt has
two minutes, and each vendor its rate. There are so many records here that it takes several attempts, and some
seconds of the processor; with `RADERA_TEST_RECORDS=10000` there are ten thousand.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from handlers.sandbox.testing import START
from tests.contract.fault_bench import ANNA, DAY, Play
from tests.simulation import installation

LONG_AGO = START - 300 * DAY


def superoffice(number: int) -> dict[str, Any]:
    """One person with so many requests."""
    person = {"id": 800_000, "email": ANNA, "created_at": LONG_AGO, "tickets": number}
    return {"superoffice": {"persons": [person]}}


def hubspot(number: int) -> dict[str, Any]:
    """So many contacts, each with an address of its own and Anna's beside it."""
    contacts = [
        {
            "id": 800_000 + n,
            "email": f"anna.{n}@elsewhere.example",
            "additional_emails": [ANNA],
            "created_at": LONG_AGO,
        }
        for n in range(number)
    ]
    # Each erasure is announced, and each announcement would bring about a look.
    return {"hubspot": {"webhook": None, "contacts": contacts}}


def teamtailor(number: int) -> dict[str, Any]:
    """So many applications, each a candidate."""
    candidates = [{"id": 800_000 + n, "email": ANNA, "created_at": LONG_AGO} for n in range(number)]
    return {"teamtailor": {"webhook": None, "candidates": candidates}}


def tenant(number: int) -> dict[str, Any]:
    """So many records of a user of the product."""
    known = [{"type": "email", "value": ANNA}]
    records = [
        {"id": f"user-8{n:06d}", "identities": known, "person": "anna", "created_at": LONG_AGO}
        for n in range(number)
    ]
    return {"tenants": [{"tenant": installation.TENANT, "records": records}]}


@dataclass(frozen=True, slots=True)
class Large:
    """What a vendor holds, and settings that leave nothing to ask."""

    held: Callable[[int], dict[str, Any]]
    number: int
    own: dict[str, Any] = field(default_factory=dict)

    def play(self, system: str) -> Play:
        number = int(os.environ.get("RADERA_TEST_RECORDS", self.number))
        own = {"ambiguous": "all", **self.own}
        return Play(system, held=self.held(number), own=own, most_events=5000)


CASES = {
    "superoffice": Large(superoffice, 1000, {"calls_per_second": 5}),
    "hubspot": Large(hubspot, 250, {"hanging": ()}),
    "agency_tt": Large(teamtailor, 1000),
    "tenant": Large(tenant, 2000),
}


@pytest.mark.parametrize("system", CASES)
def test_more_records_than_one_attempt_can_go_through_are_erased_and_proved(system: str) -> None:
    """Nothing is held any more, the proof says so, nobody is asked, and no attempt failed on the way."""
    large = CASES[system]
    played = large.play(system).play()
    assert ([], []) == (played.failures, played.asked)
    assert played.step.found >= large.number
    assert played.end[0] in ("erased", "retained")
    assert [] == [effect for effect, times in played.effects.items() if times > 1]
