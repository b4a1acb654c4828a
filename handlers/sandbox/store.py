"""Where the stand-ins keep what they hold, what they did, and what they have yet to do.

The rules:

* Everything is read from memory. With a directory, `commit()` has put every change since the last commit
  into one transaction of an SQLite file before it returns, the ledger's lines among them: after a
  SIGKILL the file holds an effect exactly when its ledger holds it.
* A row says whom it is about: `about` lists the identifiers under which `concerning()` finds it, and the
  internal marks (they begin with `#`) by which a child is found from its parent.
* The ledger names records by the vendor's own ids, never by an identifier.
* A job is something due at a time. Jobs that speak to the world (`network`) wait for `Sandbox.tick`; the
  others, such as a vendor's purge, also run before the next request is answered, so nobody can see a row
  that should be gone.
"""

import heapq
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]

FILE = "sandbox.sqlite3"


def normal(identifier: str) -> str:
    """The form under which an identifier is indexed; vendors compare addresses without regard to case."""
    return identifier.strip().lower()


class Store:
    """Tables of rows, a ledger, counters and jobs; see the module's rules."""

    def __init__(self, directory: Path | None = None) -> None:
        self._tables: dict[str, dict[str, Row]] = {}
        self._about: dict[tuple[str, str], dict[str, None]] = {}
        self._ledger: list[Row] = []
        self._counters: dict[str, int] = {}
        self._waiting: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        self._dirty: dict[tuple[str, str], Row | None] = {}
        self._noted = 0
        self._database: sqlite3.Connection | None = None
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            self._open(directory / FILE)

    def _open(self, file: Path) -> None:
        database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS held (name TEXT, id TEXT, row TEXT, PRIMARY KEY (name, id))"
        )
        database.execute("CREATE TABLE IF NOT EXISTS ledger (seq INTEGER PRIMARY KEY, line TEXT)")
        database.execute("CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER)")
        for name, key, row in database.execute("SELECT name, id, row FROM held ORDER BY rowid"):
            self._place(name, key, json.loads(row))
        self._ledger = [
            json.loads(line) for (line,) in database.execute("SELECT line FROM ledger ORDER BY seq")
        ]
        self._noted = len(self._ledger)
        self._counters = dict(database.execute("SELECT name, value FROM counters"))
        self._database = database

    def _place(self, table: str, key: str, row: Row) -> None:
        self._unlist(table, key)
        self._tables.setdefault(table, {})[key] = row
        for identifier in row.get("about", ()):
            self._about.setdefault((table, identifier), {})[key] = None
        if table == "jobs":
            heapq.heappush(self._waiting[row["network"]], (row["due_at"], row["id"]))

    def _unlist(self, table: str, key: str) -> None:
        old = self._tables.get(table, {}).get(key)
        for identifier in old.get("about", ()) if old else ():
            keys = self._about[(table, identifier)]
            del keys[key]
            if not keys:
                del self._about[(table, identifier)]

    def put(self, table: str, key: str, row: Row) -> Row:
        """Files `row` under `key`, in place of what was there."""
        row["about"] = list(dict.fromkeys(row.get("about", ())))
        self._place(table, key, row)
        if self._database is not None:
            self._dirty[(table, key)] = row
        return row

    def drop(self, table: str, key: str) -> None:
        self._unlist(table, key)
        if self._tables.get(table, {}).pop(key, None) is not None and self._database is not None:
            self._dirty[(table, key)] = None

    def get(self, table: str, key: str) -> Row | None:
        return self._tables.get(table, {}).get(key)

    def rows(self, table: str) -> list[Row]:
        return list(self._tables.get(table, {}).values())

    def concerning(self, table: str, identifier: str) -> list[Row]:
        """The rows of a table that are about `identifier`, in the order in which they came."""
        held = self._tables.get(table, {})
        return [held[key] for key in self._about.get((table, identifier), ())]

    def tables(self) -> Iterator[str]:
        return iter(list(self._tables))

    def number(self, counter: str) -> int:
        """The next number of a counter; never given twice by the same store."""
        self._counters[counter] = value = self._counters.get(counter, 0) + 1
        return value

    def reserve(self, counter: str, value: int) -> None:
        """No later number of this counter will be `value` or below it."""
        self._counters[counter] = max(self._counters.get(counter, 0), value)

    def note(self, at: int, vendor: str, account: str, effect: str, **more: Any) -> None:
        """Adds a line to the ledger."""
        line = {
            "seq": len(self._ledger) + 1,
            "at": at,
            "vendor": vendor,
            "account": account,
            "effect": effect,
        }
        self._ledger.append({**line, "record": None, "repeated": False, **more})

    def ledger(self) -> list[Row]:
        return [dict(line) for line in self._ledger]

    def later(self, due_at: int, what: str, *, network: bool = False, **details: Any) -> None:
        """Puts off a job until `due_at`."""
        number = self.number("jobs")
        job = {"id": number, "due_at": due_at, "what": what, "network": network, "attempts": 0, **details}
        self.put("jobs", str(number), job)

    def take(self, now: int, *, network: bool) -> Row | None:
        """The job longest due, which stays on disk until `done`; None when none is due."""
        waiting = self._waiting[network]
        while waiting and waiting[0][0] <= now:
            due_at, number = heapq.heappop(waiting)
            job = self.get("jobs", str(number))
            if job is not None and job["due_at"] == due_at:
                return job
        return None

    def done(self, job: Row) -> None:
        self.drop("jobs", str(job["id"]))

    def next_due(self) -> int | None:
        """When the next job of either sort is due."""
        heads = [waiting[0][0] for waiting in self._waiting.values() if waiting]
        return min(heads, default=None)

    def commit(self) -> None:
        """Returns when every change so far is on disk; costs nothing without a directory."""
        if self._database is None or not (self._dirty or self._noted < len(self._ledger)):
            return
        changed = [
            (name, key, json.dumps(row)) for (name, key), row in self._dirty.items() if row is not None
        ]
        gone = [pair for pair, row in self._dirty.items() if row is None]
        lines = [(line["seq"], json.dumps(line)) for line in self._ledger[self._noted :]]
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        database.executemany(
            "INSERT INTO held VALUES (?, ?, ?) ON CONFLICT (name, id) DO UPDATE SET row = excluded.row",
            changed,
        )
        database.executemany("DELETE FROM held WHERE name = ? AND id = ?", gone)
        database.executemany("INSERT INTO ledger VALUES (?, ?)", lines)
        database.executemany("INSERT OR REPLACE INTO counters VALUES (?, ?)", list(self._counters.items()))
        database.execute("COMMIT")
        self._dirty.clear()
        self._noted = len(self._ledger)

    def close(self) -> None:
        if self._database is not None:
            self.commit()
            self._database.close()
            self._database = None
