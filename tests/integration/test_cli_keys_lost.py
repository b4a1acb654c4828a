"""`radera keys lost`: what can't be put back is declared lost, and the DPO is asked about each request."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.privacy import Keyring
from orchestrator.store import KeyringForeign
from tests.integration.installation import PERSON, START, Installation, installed

WHY = "the disk burned, and no copy is left"


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        made.ground.generations.take()
        yield made


def burned(installation: Installation) -> int:
    """The keyring is gone, and a new one in its place. Returns the number of the generation that was lost."""
    number = installation.ground.keyring.current.number
    file = installation.file.parent / "radera.keys"
    file.unlink()
    Keyring.create(file, START)
    return number


def test_a_lost_generation_is_declared_and_asked_about(installation: Installation) -> None:
    """Nothing starts before; then all does, the DPO has a question for each open request, and ends it."""
    request_ids = [installation.submit(("email", PERSON), verified=False) for _ in range(2)]
    installation.settle()
    number = burned(installation)
    assert 1 == installation.cli("submit", "--email", PERSON).exit_code

    said = installation.cli("keys", "lost", str(number), "--reason", WHY)
    assert (0, True) == (said.exit_code, "2 open keys are concerned" in said.stdout), said.output
    installation.restart()
    assert 2 == installation.orchestrator.ask_about_lost_keys()
    installation.settle()
    for request_id in request_ids:
        assert ["identity_unverified", "key_lost"] == sorted(installation.questions(request_id))
        done = installation.cli("decide", request_id, "cancel", "--reason", "handed in anew")
        assert 0 == done.exit_code, done.output
        installation.settle()
        assert "cancelled" == installation.saga(request_id).status
    assert 0 == installation.cli("submit", "--email", PERSON).exit_code
    known = installation.ground.generations.all()[number]
    assert ("dpo", WHY) == (known.lost_by, known.lost_reason)


def test_what_is_there_is_not_lost(installation: Installation) -> None:
    """Nor is what nobody has ever heard of; and what was declared is declared once."""
    there = installation.ground.keyring.current.number
    for number, why in ((there, "is in the keyring"), (there % 1000 + 1, "knows no generation")):
        said = installation.cli("keys", "lost", str(number), "--reason", WHY)
        assert (1, True) == (said.exit_code, why in said.stderr), said.output
    lost = str(burned(installation))
    assert 0 == installation.cli("keys", "lost", lost, "--reason", WHY).exit_code
    again = installation.cli("keys", "lost", lost, "--reason", WHY)
    assert (1, True) == (again.exit_code, "was declared lost on 2026-08-31" in again.stderr)


@pytest.mark.parametrize("reason", ["", " ", "…", f"asked by {PERSON}", "x" * 501])
def test_a_loss_has_a_reason_that_can_stay_on_the_record(installation: Installation, reason: str) -> None:
    """As a decision has."""
    number = burned(installation)
    assert 2 == installation.cli("keys", "lost", str(number), "--reason", reason).exit_code
    with pytest.raises(KeyringForeign):
        installation.restart()
    installation.cli("keys", "lost", str(number), "--reason", WHY)
    installation.restart()
