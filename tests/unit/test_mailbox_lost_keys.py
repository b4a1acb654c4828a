"""The mailbox and master keys that are not there."""

from typing import NoReturn

import pytest

from orchestrator.privacy.keyring import GenerationLost, GenerationUnknown
from tests.unit.test_mailbox import World, notice

HOUR = 3_600_000_000


@pytest.mark.parametrize("lost", [False, True])
def test_a_notice_waits_for_a_key_that_is_not_known_yet_and_for_no_lost_one(
    monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """All other mails go on meanwhile; of a lost one the DPO hears that the person can't be told by mail."""

    def fail(request_id: str) -> NoReturn:
        raise (GenerationLost if lost else GenerationUnknown)(number=7)

    world = World()
    world.publish(notice(world))
    with monkeypatch.context() as patch:
        patch.setattr(world.keys, "key_of", fail)
        world.step()
    assert [] == world.postman.sent
    said = [(one.kind, one.code) for one in world.confirmations()]
    assert said == ([("notice_failed", "unreadable_identifiers")] if lost else [])
    world.now += HOUR
    world.step()
    assert (0 if lost else 1) == len(world.postman.sent)
