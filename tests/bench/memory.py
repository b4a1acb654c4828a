"""What each role holds under load: whole requests, from submission to mail, against the vendors' stand-ins.

Every role is a process of its own, on Kafka and PostgreSQL; requests are submitted as fast as they are taken.
The most that each process was seen to hold (VmHWM) is told. What the stand-ins can answer limits the load.
"""

import random
import time
from contextlib import ExitStack
from pathlib import Path

from orchestrator.cli.submit import identifier_of, submit_to
from tests.bench.installation import Installation, Replica, against_vendors
from tests.integration.people import make_people
from tests.integration.processes import Vendors

_LIMIT = 900.0
_ROLES = {
    "orchestrator": ("orchestrator",),
    "worker": ("worker",),
    "mailbox": ("mailbox",),
    "serve": ("serve",),
}


def most(pid: int) -> float:
    """The most memory that a process ever held, in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError("the system doesn't tell a process's memory")


def measure(home: Path, requests: int) -> dict[str, float]:
    """The megabytes of each role, after so many requests."""
    with ExitStack() as stack:
        made, vendors = stack.enter_context(against_vendors(home))
        roles = {name: Replica(made.config, home / f"{name}.log", words) for name, words in _ROLES.items()}
        roles["serve"].port = made.ground.settings.http.port
        for role in roles.values():
            role.start()
            stack.callback(role.stop)
        _carry_out(made, vendors, requests)
        return {name: most(role.pid) for name, role in roles.items()}


def _carry_out(made: Installation, vendors: Vendors, requests: int) -> None:
    people = make_people(random.Random(11), requests)
    for person in people:
        person.settle(vendors)
        submit_to(
            made.ground,
            [identifier_of(kind, value) for kind, value in person.identifiers],
            scope=person.scope,
            tenant=person.tenant,
            source="bench",
        )
    until = time.monotonic() + _LIMIT
    while made.number("SELECT count(*) FROM sagas WHERE status = 'completed'") < requests:
        if time.monotonic() > until:
            raise AssertionError(f"not all of {requests} requests ended within {_LIMIT:.0f} s")
        time.sleep(0.5)
