"""What controllers asked over OpenDSR, and whom to tell of it.

* A request is filed before it is published, and marked when it was: found unmarked, it is published again,
  which the saga takes for the repeat that it is, or gives way to what its controller posts next.
* What a controller is to be told is not queued here. It follows from the request's state at the time, so
  nothing that happened can be missed; what is kept is the last that each address accepted.
* Whoever looks at an address moves its next look first, so that two processes don't both tell it. One that
  dies over it leaves the look to come.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import sqlalchemy as sa

from orchestrator.store import dialect
from orchestrator.store.store import Store
from orchestrator.store.tables import opendsr_callbacks, opendsr_requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as a controller knows it. `body` is None once its digest was forgotten."""

    request_id: str
    system: str
    subject_request_id: str
    version: str
    body: str | None = field(repr=False)
    received_at: int
    expected_at: int
    published_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An address of a request, sealed. `told` is the last state that was accepted there."""

    asked: Asked
    number: int
    address: bytes = field(repr=False)
    told: str | None
    tries: int
    look_at: int


_ASKED = tuple(one.name for one in fields(Asked))


class AskedRequests:
    """The register of one installation."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def file(self, asked: Asked, addresses: Sequence[bytes]) -> Asked:
        """Files a request with the addresses to tell, unless its id is known. Gives the one that is filed."""
        row = tuple(getattr(asked, name) for name in _ASKED)
        listeners = [
            {"request_id": asked.request_id, "number": number, "address": address, "tries": 0, "told": None}
            | {"look_at": asked.received_at}
            for number, address in enumerate(addresses)
        ]
        with self._store.engine.begin() as connection:
            done = dialect.put(connection, opendsr_requests, _ASKED, [row], _returning_id)
            if list(done.scalars()) and listeners:
                connection.execute(sa.insert(opendsr_callbacks), listeners)
        return self.find(asked.request_id) or asked

    def find(self, request_id: str) -> Asked | None:
        """The request of this id of ours."""
        query = sa.select(*_columns()).where(opendsr_requests.c.request_id == request_id)
        with self._store.reading.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Asked(**row._asdict())

    def replace(self, asked: Asked, addresses: Sequence[bytes], before: Asked) -> Asked | None:
        """File a request in the place of `before`, which was never published; None where that is not there as
        it was. Addresses that are too many are not told of anything.
        """
        c, told = opendsr_requests.c, opendsr_callbacks.c
        change = sa.update(opendsr_requests).where(
            c.request_id == asked.request_id, c.published_at.is_(None), c.body == before.body
        )
        with self._store.engine.begin() as connection:
            if not connection.execute(
                change.values({name: getattr(asked, name) for name in _ASKED})
            ).rowcount:
                return None
            ours = sa.select(told.number).where(told.request_id == asked.request_id).order_by(told.number)
            numbers = list(connection.execute(ours).scalars())
            for number, address in enumerate(addresses):
                values = {"address": address, "tries": 0, "told": None, "look_at": asked.received_at}
                place = {"request_id": asked.request_id, "number": number}
                if number in numbers:
                    row = sa.update(opendsr_callbacks).filter_by(**place)
                    connection.execute(row.values(values))
                else:
                    connection.execute(sa.insert(opendsr_callbacks).values(place | values))
            rest = told.request_id == asked.request_id, told.number >= len(addresses)
            connection.execute(sa.update(opendsr_callbacks).where(*rest).values(look_at=None))
        return asked

    def mark_published(self, request_id: str, at: int, body: str | None = None) -> bool:
        """The bus has it; the first time stands. False where it is filed with another `body` than this one.
        Durable when it returns.
        """
        c = opendsr_requests.c
        is_this = c.request_id == request_id, *(() if body is None else (c.body == body,))
        first = sa.func.coalesce(c.published_at, at)
        change = sa.update(opendsr_requests).where(*is_this).values(published_at=first)
        with self._store.engine.begin() as connection:
            return bool(connection.execute(change).rowcount)

    # --- telling ---

    def due(self, now: int, limit: int, longest: int) -> list[Listener]:
        """The addresses whose look has come, of requests that were published, the longest due first.

        One that lies further ahead than `longest` was set before the clock was set back, and has come, too.
        """
        c = opendsr_callbacks.c
        query = (
            sa.select(*_columns(), c.number, c.address, c.told, c.tries, c.look_at)
            .join_from(opendsr_callbacks, opendsr_requests, c.request_id == opendsr_requests.c.request_id)
            .where(
                sa.or_(c.look_at <= now, c.look_at > now + longest),
                opendsr_requests.c.published_at.is_not(None),
            )
            .order_by(c.look_at, c.request_id, c.number)
            .limit(limit)
        )
        with self._store.reading.connect() as connection:
            rows = [row._asdict() for row in connection.execute(query)]
        return [Listener(asked=Asked(**{name: row.pop(name) for name in _ASKED}), **row) for row in rows]

    def claim(self, listener: Listener, until: int) -> Listener | None:
        """The look, if it is ours: others find it due at `until`, if nothing is said about it by then."""
        return replace(listener, look_at=until) if self._change(listener, look_at=until) else None

    def told(self, listener: Listener, state: str, look_at: int | None) -> None:
        """The address accepted this state; the next look, None for no more."""
        self._change(listener, told=state, tries=0, look_at=look_at)

    def failed(self, listener: Listener, look_at: int) -> None:
        """It did not; the next try."""
        self._change(listener, tries=listener.tries + 1, look_at=look_at)

    def look_again(self, listener: Listener, look_at: int | None) -> None:
        """There was nothing to tell."""
        self._change(listener, look_at=look_at)

    # --- forgetting ---

    def purge_unpublished(self, before: int) -> int:
        """Forgets what was filed earlier than `before` and never published: who asked it was not told that we
        have it. Returns how many.
        """
        c = opendsr_requests.c
        old = sa.select(c.request_id).where(c.published_at.is_(None), c.received_at < before)
        with self._store.engine.begin() as connection:
            connection.execute(sa.delete(opendsr_callbacks).where(opendsr_callbacks.c.request_id.in_(old)))
            return connection.execute(
                sa.delete(opendsr_requests).where(c.published_at.is_(None), c.received_at < before)
            ).rowcount

    def _change(self, listener: Listener, **values: object) -> bool:
        c = opendsr_callbacks.c
        with self._store.engine.begin() as connection:
            done = connection.execute(
                sa.update(opendsr_callbacks)
                .where(
                    c.request_id == listener.asked.request_id,
                    c.number == listener.number,
                    c.look_at == listener.look_at,
                )
                .values(**values)
            )
            return done.rowcount == 1


def _columns() -> list[sa.Column[object]]:
    return [opendsr_requests.c[name] for name in _ASKED]


def _returning_id(put: dialect.Insert) -> sa.Insert:
    return put.on_conflict_do_nothing().returning(opendsr_requests.c.request_id)
