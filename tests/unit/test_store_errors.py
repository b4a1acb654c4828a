"""What a server's error becomes: its condition by name, and nothing of the row that it is about."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import IntegrityError

from orchestrator.store.errors import (
    Collided,
    DiskFull,
    Full,
    Locked,
    NotAllowed,
    ReadOnly,
    ServerAway,
    StoreError,
    typed,
)

QUOTED = "Key (request_id)=(canary.person@people.example) already exists."


class Said(Exception):
    """An error as psycopg has it: a state, and a text whose DETAIL quotes the row."""

    def __init__(self, state: str | None) -> None:
        super().__init__(f"duplicate key value violates unique constraint\nDETAIL:  {QUOTED}")
        self.sqlstate = state
        self.diag = SimpleNamespace(message_primary="duplicate key value violates unique constraint")


def context(error: BaseException, wrapped: Any = None, *, gone: bool = False) -> ExceptionContext:
    made = SimpleNamespace(original_exception=error, is_disconnect=gone, sqlalchemy_exception=wrapped)
    return cast(ExceptionContext, made)


def test_an_error_does_not_quote_the_row() -> None:
    """Neither the text nor the parameters: the log keeps both."""
    error = Said("23505")
    wrapped = IntegrityError("INSERT", {"request_id": "canary"}, error, hide_parameters=False)
    told = typed(context(error, wrapped), "db")
    assert isinstance(told, IntegrityError)
    assert "canary" not in f"{told!s} {told.orig!s} {told.params!r}"
    assert "unique constraint" in str(told)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("40P01", Collided),
        ("40001", Collided),
        ("55P03", Locked),
        ("53100", DiskFull),
        ("53300", Full),
        ("25006", ReadOnly),
        ("42501", NotAllowed),
        ("57P01", ServerAway),
        ("08006", ServerAway),
        ("25P03", ServerAway),
    ],
)
def test_the_servers_condition_has_a_name(state: str, kind: type[StoreError]) -> None:
    """By which the loops know whether it passes, and the operator what to mend."""
    told = typed(context(Said(state)), "db")
    assert kind is type(told)
    assert "canary" not in str(told)


def test_a_connection_that_is_gone_is_a_server_that_is_away() -> None:
    """Whatever the driver calls it."""
    assert isinstance(typed(context(Said(None), gone=True), "db"), ServerAway)
