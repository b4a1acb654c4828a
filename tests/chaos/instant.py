"""Systems that answer at once: four kinds of handler, as a third party would ship them, and what they stand
for, a file for each.

* The file is the vendor: what it holds, what was done to it (the ledger), and the faults to meet. It outlives
  every process of Radera's; a record is erased exactly when its ledger says so.
* An effect that was there already is noted as repeated.
* The handlers know nothing but the file: no cache, no memory, no network.

The four are found by the entry points that `installed` writes (see `installation`), in worker processes that
are otherwise as they are shipped.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import anyio
from pydantic import BaseModel

from handlers.places import DeclaredPlace
from handlers.port import CallbackBody, Control, Reference, Refused, Retryable, Task
from handlers.registry import Context, HandlerSettings
from handlers.results import Absent, Accepted, Located, Proved, Received, Result, StillPresent

_TABLES = """
CREATE TABLE held (id TEXT PRIMARY KEY, email TEXT NOT NULL, erased INTEGER NOT NULL DEFAULT 0);
CREATE INDEX by_email ON held (email);
CREATE TABLE ledger (id TEXT, at INTEGER, repeated INTEGER);
CREATE TABLE faults (kind TEXT, seconds REAL, times INTEGER);
"""


class Vendor:
    """One system's file. Each call is a transaction of its own."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def make(self) -> None:
        with closing(self._open()) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.executescript(_TABLES)

    def settle(self, records: list[tuple[str, str]]) -> None:
        """Records to hold, each an id and the person's address."""
        with closing(self._open()) as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO held (id, email) VALUES (?, ?)", records)
            database.execute("COMMIT")

    def find(self, email: str) -> list[str]:
        """The ids of what is held about an address."""
        with closing(self._open()) as database:
            found = database.execute(
                "SELECT id FROM held WHERE email = ? AND NOT erased ORDER BY id", (email,)
            )
            return [row[0] for row in found]

    def erase(self, record: str) -> None:
        with closing(self._open()) as database:
            database.execute("BEGIN IMMEDIATE")
            changed = database.execute("UPDATE held SET erased = 1 WHERE id = ? AND NOT erased", (record,))
            line = (record, time.time_ns() // 1000, changed.rowcount == 0)
            database.execute("INSERT INTO ledger VALUES (?, ?, ?)", line)
            database.execute("COMMIT")

    def fault(self, kind: str, times: int, seconds: float = 0.0) -> None:
        """`slow` and `slow_after` wait before or after the effect, `lost` loses the answer, `fails` does
        nothing but fail. Each is met by so many erasures.
        """
        with closing(self._open()) as database:
            database.execute("INSERT INTO faults VALUES (?, ?, ?)", (kind, seconds, times))

    def strike(self) -> tuple[str, float]:
        """The fault that the next erasure meets."""
        with closing(self._open()) as database:
            database.execute("BEGIN IMMEDIATE")
            struck = database.execute(
                "SELECT rowid, kind, seconds FROM faults WHERE times > 0 LIMIT 1"
            ).fetchone()
            if struck is not None:
                database.execute("UPDATE faults SET times = times - 1 WHERE rowid = ?", (struck[0],))
            database.execute("COMMIT")
            return ("", 0.0) if struck is None else (struck[1], struck[2])

    def clear(self) -> None:
        with closing(self._open()) as database:
            database.execute("DELETE FROM faults")

    def ledger(self) -> list[tuple[str, int, bool]]:
        """Every erasure in order: the record, the moment in micros, and whether it was gone before."""
        with closing(self._open()) as database:
            lines = database.execute("SELECT id, at, repeated FROM ledger ORDER BY rowid")
            return [(record, at, bool(repeated)) for record, at, repeated in lines]

    def left(self) -> dict[str, str]:
        """What is still held, and whose it is."""
        with closing(self._open()) as database:
            return dict(database.execute("SELECT id, email FROM held WHERE NOT erased"))

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.file, isolation_level=None, timeout=30.0)
        # No power fails here: what is committed is there for whoever reads it next.
        database.execute("PRAGMA synchronous=OFF")
        return database


class InstantSettings(HandlerSettings):
    """Where the system is."""

    file: Path


class Instant:
    """The handler; a subclass for each kind, since each kind has its own topics."""

    kind: ClassVar[str]
    Settings: ClassVar[type[BaseModel]] = InstantSettings
    places: ClassVar[tuple[DeclaredPlace, ...]] = ()

    def __init__(self, settings: InstantSettings, context: Context) -> None:
        self._vendor = Vendor(settings.file)
        self._context = context

    async def locate(self, task: Task) -> Result:
        found = self._found(task)
        control = self._control()
        return Located(references=found, evidence=control.evidence()) if found else Absent(control=control)

    async def erase(self, task: Task) -> Result:
        for reference in task.references:
            kind, seconds = self._vendor.strike()
            if kind == "slow":
                await anyio.sleep(seconds)
            if kind == "fails":
                raise Retryable("vendor_error")
            task.may_erase()
            self._vendor.erase(reference.id)
            if kind == "slow_after":
                await anyio.sleep(seconds)
            if kind == "lost":
                raise Retryable("connection_lost")
        return Accepted(erased=len(task.references), prove_at=self._context.clock())

    async def prove(self, task: Task) -> Result:
        found = self._found(task)
        if found:
            return StillPresent(references=found)
        return Proved(control=self._control(), grade="seen_absent")

    async def receive(self, callback: CallbackBody) -> Received:
        raise Refused("nobody_calls_back")

    def _found(self, task: Task) -> tuple[Reference, ...]:
        emails = [identifier.value for identifier in task.identifiers.of_kind("email")]
        return tuple(Reference(kind="record", id=id_) for email in emails for id_ in self._vendor.find(email))

    def _control(self) -> Control:
        return Control.shown(pinned="instant", answered="instant")


class Crm(Instant):
    kind = "instant_crm"


class Shop(Instant):
    kind = "instant_shop"


class Letters(Instant):
    kind = "instant_letters"


class Desk(Instant):
    kind = "instant_desk"


KINDS: dict[str, Any] = {one.kind: one for one in (Crm, Shop, Letters, Desk)}
