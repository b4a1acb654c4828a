"""A request that was accepted and that nobody opens is noticed within minutes, by its id."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.cli.roles import figures_of
from orchestrator.service.unopened import Unopened
from orchestrator.store.tables import outbox
from tests.integration.installation import PERSON, SECOND, Installation, installed


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        getattr(one, "request_id", "") for one in caplog.records if one.getMessage() == "request_not_opened"
    ]


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_request_that_is_not_opened_is_named(
    installation: Installation, caplog: pytest.LogCaptureFixture, is_lost: bool
) -> None:
    """Its record waits, or was lost on the way and its key alone is left. It is said once, and until it is
    opened it is counted and shown.
    """
    caplog.set_level(logging.ERROR)
    watch = Unopened(installation.ground.store)
    request_id = installation.submit(("email", PERSON), verified=False)
    if is_lost:
        with installation.ground.engine.begin() as connection:
            connection.execute(sa.delete(outbox))
    watch.step()
    assert [] == said(caplog)  # it may be on its way
    assert f"{request_id}: accepted on" in installation.cli("status").stderr
    installation.clock.now += 700 * SECOND
    watch.step()
    installation.clock.now += 100 * SECOND
    watch.step()
    assert [request_id] == said(caplog)
    figures = figures_of(installation.ground)
    assert (1, 800) == (figures.unopened, round(figures.unopened_age or 0))


def test_a_request_that_was_opened_or_ended_is_none(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    """A tombstone is no key, and a request with a state is not waited for."""
    caplog.set_level(logging.ERROR)
    opened = installation.submit(("email", PERSON), verified=False)
    installation.settle()
    installation.decide(opened, "cancel")
    installation.submit(("email", f"other.{PERSON}"), verified=False)
    installation.settle()
    installation.clock.now += 700 * SECOND
    Unopened(installation.ground.store).step()
    assert ([], {}) == (said(caplog), installation.ground.store.unopened())
    assert "not yet opened" not in installation.cli("status").stderr
