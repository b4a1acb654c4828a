"""A control vouches for the look: rights that are lost at any moment never read as absence.

Each case lets so many calls by and then takes the credentials' rights, or gives them another account, for
good. Wherever that falls, the handler must find the person or fail; "absent" and "erased" would be lies.
"""

from pathlib import Path
from typing import Any

import pytest

from handlers.port import CallFailed
from handlers.results import Absent, Proved
from tests.contract.handlers_bench import ANNA, Bench

pytestmark = pytest.mark.anyio
CONTROL = "control@example.com"
HANDLERS = ("superoffice", "hubspot", "teamtailor", "tenant")
FAULTS = ("no_rights", "wrong_account")
#: More calls than any look makes, so that the last cases lose nothing and must find the person.
CALLS = range(24)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Anna and a control record at every vendor."""
    made = Bench(tmp_path)
    tenants = [
        {"id": f"user-{n}", "identities": [{"type": "email", "value": email}]}
        for n, email in enumerate((ANNA, CONTROL))
    ]
    people = [{"email": ANNA}, {"email": CONTROL}]
    made.sandbox.seed(
        {
            "superoffice": {"persons": people},
            "hubspot": {"contacts": people},
            "teamtailor": {"candidates": people},
            "tenants": [{"tenant": "bygg", "records": tenants}],
        }
    )
    return made


def vendor_of(name: str) -> str:
    return "tenant-api" if name == "tenant" else name


def made(bench: Bench, name: str) -> Any:
    return getattr(bench, name)(control_email=CONTROL)


@pytest.mark.parametrize("skip", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", HANDLERS)
async def test_locate_never_takes_lost_rights_for_absence(
    bench: Bench, name: str, fault: str, skip: int
) -> None:
    """Anna is there all the time."""
    handler = made(bench, name)
    bench.sandbox.fault(fault, vendor=vendor_of(name), skip=skip, times=None)

    try:
        result = await handler.locate(bench.task("locate", instruction="erase"))
    except CallFailed:
        return
    assert not isinstance(result, Absent)


@pytest.mark.parametrize("skip", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", HANDLERS)
async def test_prove_never_takes_lost_rights_for_erasure(
    bench: Bench, name: str, fault: str, skip: int
) -> None:
    """Nothing was erased, so no proof may pass."""
    handler = made(bench, name)
    located = await handler.locate(bench.task("locate", instruction="erase"))
    bench.sandbox.fault(fault, vendor=vendor_of(name), skip=skip, times=None)

    task = bench.task("prove", references=located.references, erased_at=bench.clock(), instruction="erase")
    try:
        result = await handler.prove(task)
    except CallFailed:
        return
    assert not isinstance(result, Proved)
