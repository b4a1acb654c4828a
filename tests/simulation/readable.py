"""That nothing of a person can be read anywhere when their request has ended, and that the keys are gone."""

import base64
import re

import sqlalchemy as sa

from orchestrator.store import tables
from tests.simulation.robots import Requester
from tests.simulation.violations import Violated, expect
from tests.simulation.world import World


def check_nothing_is_readable(world: World, requester: Requester) -> None:
    asked = {one.person.number for one in requester.asked}
    canaries = [text for person in world.people if person.number in asked for text in person.canaries()]
    with world.engine.connect() as connection:
        driver = connection.connection.driver_connection
        places = {"the database": driver.serialize() if driver is not None else b""}
        keys = connection.execute(sa.select(tables.subject_keys)).all()
    places["the bus"] = b"\n".join(
        b"\n".join((one.key.encode(), one.value, *(value for _, value in one.headers)))
        for one in world.bus.every()
    )
    places["the log"] = "\n".join(world.log.lines).encode()
    if world.seed % 10 == 0:
        # One page for the whole process, and slow to write.
        places["the metrics"] = world.metrics.text()
    places["the trace"] = "\n".join(world.trace).encode()
    places["a mail"] = b"\n".join(_visible(mail.recipient, mail.data) for mail in world.mails)
    for where, content in places.items():
        found = [number for number, text in enumerate(canaries) if _readable_in(text, content)]
        if found:
            raise Violated(
                "readable", f"an identifier can be read in {where}: {_around(content, canaries[found[0]])}"
            )
    for row in keys:
        saga = world.sagas.get(row.request_id)
        if saga is not None and saga.is_finished:
            gone = row.wrapped is None and row.generation is None and row.destroyed_at is not None
            expect(gone, "key", "the key of a finished request is still there")


def _readable_in(text: str, content: bytes) -> re.Match[bytes] | None:
    """The text itself, or in base64 at any of its three offsets."""
    plain = text.encode()
    if text.isdigit():
        if plain not in content:
            return None
        # The digits of a hash are no vendor's id.
        return re.search(rb"(?<![0-9a-fA-F])" + plain + rb"(?![0-9a-fA-F])", content)
    shifted = [base64.b64encode(b"\0" * shift + plain) for shift in range(3)]
    # Without the groups that the neighbours would change.
    forms = [plain, *(form[4:-4] for form in shifted if len(form) > 16)]
    if not any(form in content for form in forms):
        return None
    return re.search(b"|".join(map(re.escape, forms)), content)


def _around(content: bytes, text: str) -> str:
    """The place, with the identifier itself left out."""
    found = _readable_in(text, content)
    if found is None:
        return ""
    return repr(content[max(0, found.start() - 60) : found.start()] + b"<...>" + content[found.end() :][:40])


def _visible(recipient: str, mail: bytes) -> bytes:
    """What of a mail must name nobody: not the To of a notice, and nothing of a mail to an agency."""
    if recipient.endswith("@agency.example"):
        return b""
    lines = mail.replace(b"=\r\n", b"").replace(b"=\n", b"").splitlines()
    return b"\n".join(line for line in lines if not line.lower().startswith(b"to: "))
