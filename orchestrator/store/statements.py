"""The statements that each batch needs, made once, and what an INSERT does about rows that are there."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa

from orchestrator.store import dialect, tables

# Well under the variables that SQLite (32766) and PostgreSQL (65535) allow in one statement.
_IN_ONE_STATEMENT = 10_000

_T = TypeVar("_T")

# --- what is asked with each batch; made once, since making it takes longer than asking ---

DUE = (
    sa.select(tables.sagas.c.request_id, tables.sagas.c.document)
    .where(tables.sagas.c.wake_at <= sa.bindparam("now"))
    .order_by(tables.sagas.c.wake_at, tables.sagas.c.request_id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .with_for_update(skip_locked=True)
)


@cache
def locking(dialect_name: str) -> sa.Select[Any]:
    c = tables.sagas.c
    wanted = dialect.among_given(dialect_name, c.request_id, "some")
    return sa.select(c.request_id, c.document).where(wanted).order_by(c.request_id).with_for_update()


# --- what an INSERT does about rows that are there; each is made once, see `dialect.put` ---


def leaving_what_is_there(put: dialect.Insert) -> sa.Insert:
    return put.on_conflict_do_nothing()


def as_it_is(put: dialect.Insert) -> sa.Insert:
    return put


@cache
def returning_new(column: sa.Column[str]) -> dialect.Then:
    return lambda put: put.on_conflict_do_nothing().returning(column)


@cache
def replacing(table: sa.Table, names: tuple[str, ...]) -> dialect.Then:
    keys = [column.name for column in table.primary_key]
    changed = [name for name in names if name not in keys]
    return lambda put: put.on_conflict_do_update(
        index_elements=keys, set_={name: put.excluded[name] for name in changed}
    )


@cache
def counting_on(dialect_name: str) -> dialect.Then:
    latest = tables.words_taken.c.latest
    larger = sa.func.greatest if dialect_name == "postgresql" else sa.func.max

    def then(put: dialect.Insert) -> sa.Insert:
        following = larger(latest + 1, put.excluded.latest)
        return put.on_conflict_do_update(
            index_elements=["request_id", "system"], set_={"latest": following}
        ).returning(latest)

    return then


def leaving_a_tombstone(put: dialect.Insert) -> sa.Insert:
    c = tables.subject_keys.c
    return put.on_conflict_do_update(
        index_elements=["request_id"],
        set_={
            "generation": sa.null(),
            "wrapped": sa.null(),
            "destroyed_at": sa.func.coalesce(c.destroyed_at, put.excluded.destroyed_at),
        },
    )


def chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    rest = iter(items)
    while some := list(islice(rest, _IN_ONE_STATEMENT)):
        yield some
