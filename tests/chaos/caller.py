"""Everybody outside: the people who ask to be erased, at two doors, and the agency that answers. What a door
has taken, and what the agency was thanked for, stands in a list that nobody else keeps.

* One door is ours (`radera submit`, by way of the outbox). The other is the topic of requests, to which
  producers outside publish by themselves, sealed to the public key that they were last given.
* The agency answers the first mail about each request, once, and believes the page that thanks it. It answers
  a later mail only where its first answer is known to be lost (`ask_again`).

It goes on by itself in a thread, whatever happens to Radera meanwhile.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from typing import Final, Literal

import httpx

from handlers.sandbox.agencies import LINK
from orchestrator.bus.port import BusUnavailable
from orchestrator.cli.assembly import Ground, open_ground
from orchestrator.intake import Producer
from orchestrator.privacy import Identifier
from orchestrator.privacy.exchange import PublicKey
from orchestrator.store import StoreError
from tests.chaos.installation import NORD, Installation, told
from tests.chaos.people import SYSTEMS, Person

Door = Literal["ours", "topic"]

_PAUSE: Final = 0.15
#: How long the agency takes to answer a mail, in seconds.
_THINKS: Final = (2.0, 15.0)
_ANSWER_LIMIT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that a door has taken: the person, the door, and when, in seconds since the epoch."""

    person: Person
    door: Door
    at: float


@dataclass
class Caller:
    """Hands in the requests of `waiting`, as many as it is allowed, and answers for the agency."""

    installation: Installation
    waiting: list[Person]
    rng: random.Random
    allowed: int = 0
    taken: dict[str, Taken] = field(default_factory=dict)
    #: When the agency was thanked first for its answer about a request.
    thanked: dict[str, float] = field(default_factory=dict)
    #: The requests whose answer is known to be lost: the agency answers about them once more.
    ask_again: set[str] = field(default_factory=set)
    handed_in_again: int = 0
    submits: bool = True
    #: Seconds between two requests.
    pace: float = 0.0
    failure: BaseException | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _mails_read: int = 0
    _next_at: float = 0.0
    #: The links that the agency was sent, each with its request, and when it will answer.
    _unanswered: list[tuple[str, str, float]] = field(default_factory=list)
    _own: Ground | None = None
    _key: PublicKey | None = None

    def start(self) -> None:
        self._own = open_ground(self.installation.config)
        self.take_key()
        self._thread = threading.Thread(target=self._run, name="caller")
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._own is not None:
            self._own.close()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Nobody calls meanwhile, and no connection to the database is held."""
        with self._turn:
            for ground in (self.installation.desk, self._own):
                if ground is not None:
                    ground.engine.dispose()
            yield

    def take_key(self) -> None:
        """The producers outside get the present public key, as the page says."""
        self._key = PublicKey.from_json(told(self.installation.configs["serve"], "keys", "public"))

    def hand_in_again(self, request_ids: Sequence[str]) -> None:
        """The people are told that their requests were lost, and hand them in under the same ids."""
        with self._turn:
            for request_id in request_ids:
                self.waiting.append(self.taken[request_id].person)
                self.handed_in_again += 1
                self.allowed += 1

    # --- the thread ---

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                with self._turn:
                    if self.submits and self.waiting and self.allowed > 0 and self._is_time():
                        self._hand_in()
                    self._read_mail()
                    self._answer()
                time.sleep(_PAUSE)
        except BaseException as error:
            # The run ends with it: a door that fails otherwise than it may is what is looked for.
            self.failure = error

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + self.pace
        return True

    def _hand_in(self) -> None:
        person = self.waiting[-1]
        before = self.taken.get(person.request_id)
        door: Door = before.door if before is not None else self.rng.choice(["ours", "ours", "topic"])
        if self.installation.submit(person) if door == "ours" else self._publish(person):
            self.taken[person.request_id] = Taken(person, door, time.time())
            self.waiting.pop()
            self.allowed -= 1

    def _publish(self, person: Person) -> bool:
        assert self._own is not None
        assert self._key is not None
        producer = Producer(self._key, source="test")
        made = producer.request(
            [Identifier("email", person.email)], request_id=person.request_id, scope=SYSTEMS, verified=True
        )
        try:
            producer.publish(self._own.bus, made)
        except (BusUnavailable, StoreError):
            return False
        person.is_submitted = True
        return True

    def _read_mail(self) -> None:
        files = sorted((self.installation.directory / "vendors" / "mail").glob("*.eml"))
        for file in files[self._mails_read :]:
            mail = message_from_bytes(file.read_bytes(), policy=policy.default)
            if mail["to"] == NORD:
                request_id = str(mail["message-id"]).partition(".")[2].partition("@")[0]
                links = LINK.findall(mail.get_content())
                at = time.monotonic() + self.rng.uniform(*_THINKS)
                self._unanswered += [(request_id, link, at) for link in links]
        self._mails_read = len(files)

    def _answer(self) -> None:
        """What can't be delivered now is tried again; a link that has been used is another's."""
        left = []
        for request_id, link, at in self._unanswered:
            if request_id in self.thanked and request_id not in self.ask_again:
                continue
            status = self._said(link) if time.monotonic() >= at else 0
            if status == 200:
                self.thanked.setdefault(request_id, time.time())
                self.ask_again.discard(request_id)
            elif status not in (404, 410):
                left.append((request_id, link, at))
        self._unanswered = left

    def _said(self, link: str) -> int:
        try:
            with httpx.Client(trust_env=False, timeout=_ANSWER_LIMIT) as client:
                return client.post(link, data={"answer": "erased"}).status_code
        except httpx.TransportError:
            return 0
