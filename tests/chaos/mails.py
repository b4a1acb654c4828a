"""The mails as the server took them, and why one came again.

Each comes from an address that names the life of the process that sent it (`fleet`). So a mail that came
again is held against what happened to whoever sent it before, and against nothing that happened to others:

* To the officer or the person, it is the same mail, it came before any was recorded, and either the life that
  sent it before was killed, or that life wrote down that it had no answer to just this mail.
* To the agency, whose mails are the effect of commands, and commands are repeated: its sender got no answer,
  something happened to a worker of the sender's group, so that its command came to another, the command is
  on the topic more than once, or the broker was away, so that nobody could say that it was sent.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.parser import BytesHeaderParser
from functools import cached_property
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from schemas import topics
from tests.chaos.faults import Spell
from tests.chaos.installation import Installation, patiently

#: Codes of a mail that was put off, where the server may have it.
_NO_ANSWER = frozenset({"lost", "unreachable"})
#: A clock is read a little after what it is read for, and a file's time a little before; seconds.
_SLACK = 1.0
#: How long, in seconds, a group takes to notice a change and to share its partitions anew.
_REBALANCE = 15.0


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as the server took it: its Message-ID, recipient, moment (seconds), the life that sent it, and
    its text without date and sender.
    """

    message: str
    to: str
    at: float
    life: str
    text: bytes


@dataclass
class Mails:
    """Of one run. `away` are the times without a broker."""

    installation: Installation
    away: Sequence[Spell]

    @cached_property
    def taken(self) -> list[Mail]:
        """Every one, in order."""
        parser = BytesHeaderParser()
        mails = []
        for file in sorted((self.installation.directory / "vendors" / "mail").glob("*.eml")):
            data = file.read_bytes()
            head, _, body = data.partition(b"\r\n\r\n")
            parsed = parser.parsebytes(head)
            lines = [line for line in head.split(b"\r\n") if not line.startswith((b"Date:", b"From:"))]
            mails.append(
                Mail(
                    str(parsed["message-id"]),
                    str(parsed["to"]),
                    file.stat().st_mtime,
                    str(parsed["from"]).rpartition("<")[2].partition("@")[0],
                    b"\r\n".join(lines) + body,
                )
            )
        return mails

    @cached_property
    def copies(self) -> dict[str, list[Mail]]:
        """By Message-ID."""
        found: defaultdict[str, list[Mail]] = defaultdict(list)
        for mail in self.taken:
            found[mail.message].append(mail)
        return dict(found)

    # --- to the officer and the person ---

    def repeats(self, message: str, event_id: str) -> Iterator[str]:
        """What is wrong with those that came again."""
        mails = self.copies[message]
        if len({mail.text for mail in mails}) != 1:
            yield f"{message} came with different texts"
        for first, again in pairwise(mails):
            recorded = self._recorded.get(event_id)
            if recorded is None or recorded < again.at - _SLACK:
                yield f"{message} came again from {again.life} though it had been recorded"
            elif not self._was_killed(first, again) and not self._had_no_answer(first, again, event_id):
                yield f"{message} came again from {again.life}, and nothing had happened to {first.life}"

    def _was_killed(self, first: Mail, again: Mail) -> bool:
        ends = ("killed", "ended by itself")
        return any(
            change.life == first.life and change.what in ends and change.at <= again.at + _SLACK
            for change in self.installation.fleet.changes
        )

    def _had_no_answer(self, first: Mail, again: Mail, event_id: str) -> bool:
        return any(
            place in self._places.get(event_id, ()) and first.at - _SLACK <= at <= again.at + _SLACK
            for at, place in self._unanswered.get(_process(first), ())
        )

    @cached_property
    def _recorded(self) -> dict[str, float]:
        """When a mail was recorded first, by its event."""
        query = sa.text("SELECT event_id, seen_at FROM inbox WHERE consumer = 'mailbox'")

        def ask() -> dict[str, float]:
            with self.installation.ground.store.reading.connect() as connection:
                return {row.event_id: row.seen_at / 1e6 for row in connection.execute(query)}

        return patiently(ask)

    @cached_property
    def _places(self) -> dict[str, set[tuple[int, int]]]:
        """Where the outcomes are, by their events: partition and offset."""
        found: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
        for one in self.installation.ground.bus.browse([topics.OUTCOMES]):
            event_id = one.header("ce_id")
            if event_id is not None:
                found[event_id.decode()].add((one.partition, one.offset))
        return dict(found)

    @cached_property
    def _unanswered(self) -> dict[str, list[tuple[float, tuple[int, int]]]]:
        """When each mailbox wrote that the server may have a mail, and where its outcome is."""
        found: defaultdict[str, list[tuple[float, tuple[int, int]]]] = defaultdict(list)
        for name, line in self._said("mail_held"):
            if line.get("code") in _NO_ANSWER:
                found[name].append((_moment(line), (line["partition"], line["offset"])))
        return dict(found)

    # --- to the agency ---

    def repeats_to_agency(self, message: str) -> Iterator[str]:
        """What is wrong with those that came again."""
        for first, again in pairwise(self.copies[message]):
            if not (
                self._group_changed(first, again)
                or self._was_away(first, again)
                or self._sender_failed(first, again)
                or _request(first) in self._asked_again
            ):
                yield f"{message} to the agency came again from {again.life}, without a reason"

    def _group_changed(self, first: Mail, again: Mail) -> bool:
        role = _process(first).rpartition("-")[0]
        return any(
            change.role == role and first.at - _REBALANCE <= change.at <= again.at + _SLACK
            for change in self.installation.fleet.changes
        )

    def _was_away(self, first: Mail, again: Mail) -> bool:
        return any(
            spell.began - _SLACK <= again.at and first.at <= spell.ended + _REBALANCE for spell in self.away
        )

    def _sender_failed(self, first: Mail, again: Mail) -> bool:
        return any(
            first.at - _SLACK <= at <= again.at + _SLACK
            for at in self._failed.get((_process(first), _request(first)), ())
        )

    @cached_property
    def _asked_again(self) -> set[str]:
        """The requests of which a command to an agency is on the topic more than once."""
        seen: Counter[tuple[str, bytes | None]] = Counter(
            (one.key, one.header("ce_id"))
            for one in self.installation.ground.bus.browse([topics.commands("recruitment")])
        )
        return {key for (key, _), times in seen.items() if times > 1 and key}

    @cached_property
    def _failed(self) -> dict[tuple[str, str], list[float]]:
        """When each worker wrote that the server may have the mail of a request."""
        found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for name, line in self._said("command_done"):
            if (line.get("code") or "").removeprefix("mail_") in _NO_ANSWER:
                found[name, line["request_id"]].append(_moment(line))
        return dict(found)

    # --- both ---

    def _said(self, action: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, line in self.installation.fleet.said():
            if f'"{action}"' in line:
                try:
                    yield name, json.loads(line)
                except ValueError:
                    continue  # cut short by a kill


def _process(mail: Mail) -> str:
    return mail.life.rpartition(".")[0]


def _request(mail: Mail) -> str:
    return mail.message.partition(".")[2].partition("@")[0]


def _moment(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["at"]).timestamp()
