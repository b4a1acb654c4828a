"""The trace that a request belongs to: carried from hop to hop, and never a way for a person out."""

import logging
import uuid
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest
from typing_extensions import override

from handlers.port import Reference, Task
from handlers.results import Located, Result
from handlers.worker import Worker, directly
from orchestrator.bus.port import Delivery, Headers, Record
from orchestrator.http import Client, StaticAuthority
from orchestrator.intake import Producer
from orchestrator.privacy import Exchange, Identifier
from orchestrator.saga.events import RequestReceived
from orchestrator.service.inbound import Reader
from schemas import topics
from schemas.codec import encode
from schemas.traceparent import HEADER, trace_of, traceparent
from tests.contract.worker_bench import Scripted
from tests.unit import test_mailbox as mailbox
from tests.unit.service_world import PERSON, World

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (PARENT, f"{TRACE}-01"),
        (f"00-{TRACE}-00f067aa0ba902b7-00", f"{TRACE}-00"),
        (f"00-{TRACE}-00f067aa0ba902b7-ff", f"{TRACE}-03"),
        (f"cc-{TRACE}-00f067aa0ba902b7-01", f"{TRACE}-01"),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-what-comes", f"{TRACE}-01"),
        (f"00-{TRACE}-00f067aa0ba902b7-01-what-comes", None),
        (f"cc-{TRACE}-00f067aa0ba902b7-01.what-comes", None),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE[:-1]}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-00f067aa0ba902b7", None),
        (f" {PARENT}", None),
        (f"{PARENT}\n", None),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-{'x' * 600}", None),
        (PERSON, None),
        ("", None),
    ],
)
def test_what_a_header_names(header: str, trace: str | None) -> None:
    """By the rules of W3C Trace Context: ids of zeros, version ff and a longer version 00 are none; of a
    later version what is known of this one counts; of the flags, those that are defined.
    """
    assert trace == trace_of(header.encode())


def test_a_hop_is_valid_and_its_own() -> None:
    """It names the trace, has a parent that is not the one before it, and is the same when it is repeated."""
    trace = trace_of(PARENT.encode())
    assert trace is not None
    hop = traceparent(trace, "event-1")
    assert trace == trace_of(hop.encode())
    assert (hop, 55) == (traceparent(trace, "event-1"), len(hop))
    assert 3 == len({PARENT, hop, traceparent(trace, "event-2")})
    assert None is trace_of(None)


# --- the chain ---


class Vendor(Scripted):
    """A handler that asks its vendor twice for each command."""

    kind = "crm"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[httpx.Headers] = []
        self.client = Client(
            "https://vendor.example",
            clock=lambda: 0,
            transport=httpx.MockTransport(self._answer),
            authority=StaticAuthority(lambda: {"Authorization": "Bearer t"}),
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request.headers)
        return httpx.Response(200, json={})

    @override
    async def _do(self, task: Task) -> Result:
        await self.client.call("GET", "/people")
        # Also from tasks of its own.
        async with anyio.create_task_group() as group:
            group.start_soon(self.client.call, "GET", "/companies")
        return Located(references=(Reference(kind="contact", id="700001"),))

    locate = erase = prove = _do


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.reader = Reader(made.keys, made.reader._digests, lambda: 0.5, Exchange(made.keyring))
    made.restarted()
    yield made
    made.orchestrator.close()


def hop_of(delivery: Delivery) -> str:
    header = delivery.header(HEADER)
    assert header is not None
    return header.decode()


async def work(world: World, vendor: Vendor) -> None:
    worker = Worker(
        bus=world.bus,
        keys=world.keys,
        installation=world.keyring,
        handlers={"crm": vendor},
        clock=lambda: world.now,
        call_limit=5.0,
        run_blocking=directly,
    )
    with worker.subscribe() as subscription:
        assert 1 == await worker.step(subscription)
    await vendor.client.aclose()


@pytest.mark.anyio
async def test_a_trace_goes_all_the_way(world: World) -> None:
    """From the producer's header to the commands, the calls to vendors, the confirmations and what follows
    from them: one trace, and no two hops alike.
    """
    producer = Producer(Exchange(world.keyring).public_key(), source="form", clock=lambda: world.now)
    made = producer.request([Identifier("email", PERSON)], verified=True, traceparent=PARENT)
    world.bus.publish([made.record])
    world.orchestrator.step(0.0)
    world.relay.step()
    vendor = Vendor()
    await work(world, vendor)
    world.orchestrator.step(0.0)
    world.relay.step()

    commands = [hop_of(one) for one in world.records(topics.commands("crm"))]
    said = [hop_of(one) for one in world.records(topics.CONFIRMATIONS)]
    calls = [headers[HEADER] for headers in vendor.seen]
    assert (2, 1, 2) == (len(commands), len(said), len(calls))
    hops = [PARENT, made.record.headers[-1][1].decode(), *commands, *said, *calls]
    assert {f"{TRACE}-01"} == {trace_of(hop.encode()) for hop in hops}
    assert len(hops) == len(set(hops))
    assert {"Bearer t"} == {headers["Authorization"] for headers in vendor.seen}


def test_outcomes_and_what_the_mailbox_confirms(world: World) -> None:
    """What is said to the officer belongs to the trace, and so does the confirmation of a notice."""
    request = world.request(verified=False)
    world.bus.publish(
        [Record(topic=topics.REQUESTS, key="", value=encode(request), headers=((HEADER, PARENT.encode()),))]
    )
    world.orchestrator.step(0.0)
    world.relay.step()
    [asked] = world.records(topics.OUTCOMES)
    assert f"{TRACE}-01" == trace_of(asked.header(HEADER))

    other = mailbox.World()
    notice = mailbox.notice(other)
    headers = ((HEADER, traceparent(f"{TRACE}-01", notice.event_id).encode()),)
    other.bus.publish(
        [Record(topic=topics.OUTCOMES, key=notice.request_id, value=encode(notice), headers=headers)]
    )
    other.step()
    [confirmed] = other.deliveries(topics.CONFIRMATIONS)
    assert f"{TRACE}-01" == trace_of(confirmed.header(HEADER))
    assert hop_of(confirmed).encode() != headers[0][1]


@pytest.mark.anyio
async def test_without_a_trace_there_is_none(world: World) -> None:
    """Nothing is made up: no header on the bus, none to a vendor."""
    world.publish(topics.REQUESTS, encode(world.request()))
    world.orchestrator.step(0.0)
    world.relay.step()
    vendor = Vendor()
    await work(world, vendor)
    for topic in (topics.commands("crm"), topics.CONFIRMATIONS):
        assert [None] == [one.header(HEADER) for one in world.records(topic)]
    assert [False, False] == [HEADER in headers for headers in vendor.seen]


# --- what it must not carry ---


def traced(world: World, headers: Headers, *items: Identifier) -> str | None:
    """What is kept of the trace of a request with these headers."""
    producer = Producer(Exchange(world.keyring).public_key(), source="form", clock=lambda: world.now)
    made = producer.request(items or (Identifier("email", PERSON),), verified=True)
    place: dict[str, Any] = {"partition": 0, "offset": 1, "timestamp": world.now}
    record = Delivery(
        topic=topics.REQUESTS, key=made.request_id, value=made.record.value, headers=headers, **place
    )
    event = world.reader.read(record).event
    assert isinstance(event, RequestReceived)
    return event.trace


@pytest.mark.parametrize(
    ("trace_id", "identifier"),
    [
        ("0000000000000000000046701740605f", Identifier("phone", "+46701740605")),
        ("abcdefabcdefabcdefab0701740605ab", Identifier("phone", "+46701740605")),
        (b"a.b@people.se   ".hex(), Identifier("email", "a.b@people.se")),
        ("00000000000000000000000000c0ffee", Identifier("customer_id", "00000000000000000000000000c0ffee")),
    ],
)
def test_a_person_in_a_trace_id_is_not_carried(world: World, trace_id: str, identifier: Identifier) -> None:
    """A number or an address that somebody put where 128 random bits belong goes nowhere."""
    header = (HEADER, f"00-{trace_id}-00f067aa0ba902b7-01".encode())
    assert None is traced(world, (header,), identifier)
    assert f"{trace_id}-01" == traced(world, (header,), Identifier("email", PERSON))


def test_a_malformed_trace_is_ignored(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The request is taken in all the same, and what stood there is kept nowhere and logged nowhere."""
    with caplog.at_level(logging.DEBUG):
        for value in (PERSON.encode(), b"\xff" * 55, b"", PARENT.encode() + b"-" + PERSON.encode()):
            assert None is traced(world, ((HEADER, value), ("tracestate", PERSON.encode())))
    assert PERSON not in caplog.text
    request = world.request(event_id=f"request:{uuid.uuid4()}")
    headers = ((HEADER, PERSON.encode()), ("tracestate", PERSON.encode()), ("baggage", PERSON.encode()))
    world.bus.publish([Record(topic=topics.REQUESTS, key="", value=encode(request), headers=headers)])
    world.orchestrator.step(0.0)
    world.relay.step()
    saga = world.store.saga(request.request_id)
    assert saga is not None
    assert None is saga.trace
    [command] = world.records(topics.commands("crm"))
    assert {"traceparent", "tracestate", "baggage"}.isdisjoint(name for name, _ in command.headers)
    assert PERSON.encode() not in b"".join(value for _, value in command.headers)
