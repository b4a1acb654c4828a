"""One account's trouble with a callback is no other account's."""

import json
import logging
from pathlib import Path
from typing import Any

import anyio
import pytest
from typing_extensions import override

from handlers.port import CallbackBody, Refused
from handlers.results import PartyErased, Received, VendorPurged
from orchestrator.secret import SecretUnavailable
from schemas import topics
from tests.contract import handlers_bench
from tests.contract.worker_bench import Bench, Scripted

MISSING = {"env": "RADERA_NO_SUCH_SECRET"}


class Taking(Scripted):
    """An account that takes the callback, whole or as a batch."""

    is_batch = False

    @override
    async def receive(self, callback: CallbackBody) -> Any:
        if self.is_batch:
            return (Received(result=VendorPurged(), correlation="a" * 64),)
        return Received(result=PartyErased(prove_at=None), correlation="a" * 64)


class Failing(Scripted):
    """An account whose secret is missing, so that it can't tell whether the callback is genuine."""

    @override
    async def receive(self, callback: CallbackBody) -> Any:
        raise SecretUnavailable("environment variable X is not set")


class Refusing(Scripted):
    @override
    async def receive(self, callback: CallbackBody) -> Any:
        raise Refused("wrong_account")


def called_back(bench: Bench, **handlers: Scripted) -> tuple[list[str], list[bytes | None]]:
    """What was said of a callback, and the codes of its dead letters."""
    worker = bench.worker(handlers=handlers)
    bench.call_back(b"{}")
    with worker.subscribe() as subscription:
        anyio.run(worker.step, subscription)
    letters = bench.read(topics.dead_letters(topics.callbacks("hubspot")))
    return [said.kind for said in bench.said()], [one.header("radera-code") for one in letters]


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_account_without_its_secret_costs_no_other_account_its_webhook(
    bench: Bench, order: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever is asked first: the other takes the whole of it, and nothing is set aside. The log tells of
    the account that has to be mended, if it was asked.
    """
    handlers = {"swedish": Failing(), "norwegian": Taking()}
    if order == "after":
        handlers = dict(reversed(handlers.items()))
    with caplog.at_level(logging.INFO):
        assert (["party_erased"], []) == called_back(bench, **handlers)
    told = [vars(one)["system"] for one in caplog.records if one.message == "callback_error"]
    assert (["swedish"] if order == "before" else []) == told


def test_a_batch_that_an_account_could_not_read_is_kept_beside_what_others_took(bench: Bench) -> None:
    """Some of it may be that account's; the others' part is taken all the same."""
    taking = Taking()
    taking.is_batch = True
    for handlers in ({"one": Failing(), "two": taking}, {"two": taking, "one": Failing()}):
        assert (["proved"], [b"callback_error"]) == called_back(bench, **handlers)


def test_a_callback_that_one_failed_at_and_no_other_took_is_kept(bench: Bench) -> None:
    """It may be that account's."""
    assert ([], [b"callback_error"]) == called_back(bench, one=Failing(), two=Refusing())


@pytest.mark.anyio
async def test_whose_a_webhook_is_is_known_without_a_secret(tmp_path: Path) -> None:
    """So each vendor's handler refuses what is another account's before it asks for its own secret, and takes
    nothing of its own without it.
    """
    bench = handlers_bench.Bench(tmp_path)
    hubspot = bench.hubspot(webhook_secret=MISSING)
    superoffice = bench.superoffice(webhook_secret=MISSING)
    teamtailor = bench.teamtailor(webhook_secret=MISSING)

    def posted(handler: Any, said: Any) -> Any:
        return handler.receive(bench.callback(json.dumps(said).encode(), {}))

    def deleted(portal: int) -> list[dict[str, Any]]:
        return [{"objectId": 1, "portalId": portal, "subscriptionType": "contact.privacyDeletion"}]

    def person(tenant: str) -> dict[str, Any]:
        return {"Event": "person.deleted", "PrimaryKey": 1, "ContextIdentifier": tenant}

    def candidate(company: str) -> dict[str, Any]:
        return {"event": "candidate.destroy", "id": 1, "company": company}

    for handler, others, own in (
        (hubspot, deleted(5), deleted(1234567)),
        (superoffice, person("Cust99999"), person("Cust12345")),
        (teamtailor, candidate("company-2"), candidate("company-1")),
    ):
        with pytest.raises(Refused, match=r"^wrong_account$"):
            await posted(handler, others)
        with pytest.raises(SecretUnavailable):
            await posted(handler, own)


@pytest.mark.anyio
@pytest.mark.parametrize("key", ["Infinity", "1" + "0" * 5000, "[" * 100_000])
async def test_what_nobody_signed_is_read_with_care(tmp_path: Path, key: str) -> None:
    """A stranger's numbers and nesting are malformed, and no fault of ours."""
    bench = handlers_bench.Bench(tmp_path)
    body = (
        b'{"Event": "person.deleted", "ContextIdentifier": "Cust12345", "PrimaryKey": ' + key.encode() + b"}"
    )
    for handler in (bench.superoffice(), bench.teamtailor(), bench.hubspot(webhook_secret=MISSING)):
        with pytest.raises(Refused, match=r"^malformed$"):
            await handler.receive(bench.callback(body, {}))
