"""A person with ten thousand records at one vendor is erased and proved, within the vendor's limits.

Saga, worker, handler and stand-in are the real ones; the clock moves only when somebody waits. Each attempt has
two minutes, and each vendor its rate.
"""

import cProfile
import os
import time
from collections import Counter
from typing import Any

import pytest

from handlers.sandbox.testing import START
from tests.contract.fault_bench import ANNA, DAY, Play, Played
from tests.simulation import installation

MANY = 10
LONG_AGO = START - 300 * DAY


def superoffice(number: int) -> dict[str, Any]:
    """One person with so many requests."""
    person = {"id": 800_000, "email": ANNA, "created_at": LONG_AGO, "tickets": number}
    return {"superoffice": {"persons": [person]}}


def hubspot(number: int, **more: Any) -> dict[str, Any]:
    """So many contacts, each with an address of its own and Anna's beside it."""
    contacts = [
        {
            "id": 800_000 + n,
            "email": f"anna.{n}@elsewhere.example",
            "additional_emails": [ANNA],
            "created_at": LONG_AGO,
            **more,
        }
        for n in range(number)
    ]
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


#: The system, what its vendor holds, and settings that leave nothing to ask.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {} or {
    "superoffice": (superoffice(MANY), {"ambiguous": "all"}),
    "hubspot": (hubspot(MANY), {"ambiguous": "all", "hanging": ()}),
    "agency_tt": (teamtailor(MANY), {"ambiguous": "all"}),
    "tenant": (tenant(MANY), {"ambiguous": "all"}),
}


@pytest.mark.parametrize("system", CASES)
def test_ten_thousand_records_are_erased_and_proved(system: str) -> None:
    """Nothing is held any more, the proof says so, and no attempt failed on the way."""
    held, own = CASES[system]
    began = time.process_time()
    if os.environ.get("PROF"):
        p = cProfile.Profile(); p.enable()
    played = Play(system, held=held, own=own, most_events=2000).play()
    if os.environ.get("PROF"):
        p.disable(); import pstats; pstats.Stats(p).sort_stats("cumtime").print_stats(45)
    print(system, time.process_time() - began, played.commands, sum(played.calls.values()), played.end, played.took/1e6, played.failures, played.asked, len(played.held))
    assert [] == played.failures
    assert [] == played.asked
