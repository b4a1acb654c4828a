"""The mailbox role: outcomes in, mail out.

* An outcome becomes one mail: to the subject if it is a notice, else to the data protection officer. A
  notice is answered by a confirmation, so that the saga knows whether the subject has been told.
* Sent once: the mail is claimed, sent, recorded, confirmed, and then the outcome is acknowledged. It can come
  twice only if the process died between sending and recording, or the server's answer was lost; and then
  with the same Message-ID.
* A partition can move while a mail is being handed over, and a process can be stopped and woken when its
  share is another's. So a mail is claimed first, for longer than a hand-over takes, and who finds it claimed
  waits until it is recorded, or the claim has ended: that of a process that died, whose mail then goes again.
  What a claim can't prevent is that a process is stopped in the very middle of a hand-over, for longer than
  the claim, and goes on with it when it wakes.
* Nothing is dropped. A mail that was put off is held, unacknowledged, and tried again on time, with growing
  waits. When the server itself is away only one mail at a time finds out; the others wait with it. A mail
  to the officer that was refused for good is tried again too, since nobody else would hear of it: it is
  logged as an error.
* So many are held at most; beyond that no more outcomes are taken until one has gone.
* What is held and has gone to another mailbox meanwhile is the other's to send. Only the bus knows, and only
  when it is asked: so nobody sends for long without asking.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from hashlib import sha256
from typing import Final, Literal, Protocol

from orchestrator.bus.dead_letters import dead_letter_headers
from orchestrator.bus.port import Bus, BusUnavailable, Delivery, Record, Subscription
from orchestrator.mailbox import dpo, notice
from orchestrator.mailbox.places import Titles
from orchestrator.metrics import Metrics
from orchestrator.privacy.identifiers import Identifiers, IdentifiersBroken
from orchestrator.privacy.keyring import GenerationForgotten, GenerationUnknown
from orchestrator.privacy.keys import KeyDestroyed, KeyUnknown, RequestKeys
from orchestrator.privacy.sealing import IDENTIFIERS, SealBroken, unseal
from orchestrator.settings import Settings, micros
from orchestrator.smtp import HeaderRefused, MailDeferred, Mailer, MailRefused, compose, message_id, thread_id
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import CodecError, Resolver, UnknownSchema, decode, encode
from schemas.messages import Confirmation, ConfirmationKind, Outcome
from schemas.traceparent import HEADER, trace_of

_logger = logging.getLogger(__name__)

GROUP: Final = "mailbox"
SOURCE: Final = "mailbox"
MOST_HELD: Final = 100
#: How long mails are sent before it is asked again whose they are, in microseconds.
TURN: Final = 500_000
#: For how many of the server's answers a hand-over waits at most: connection, greeting, EHLO, STARTTLS, the
#: handshake, EHLO, two of a login, MAIL, RCPT, DATA, the text, QUIT.
ANSWERS: Final = 13


class Sent(Protocol):
    """Remembers which mails were sent, and which a mailbox has in hand."""

    def claim(self, event_id: str, lasting: int) -> Literal["ours", "theirs", "sent"]:
        """Asks for a mail, for so many microseconds: whether we may send it now, another mailbox may be
        sending it, or it was recorded.
        """

    def release(self, event_id: str) -> None:
        """Ends our claim of what was not sent."""

    def record(self, event_id: str) -> None:
        """It was sent. Durable when it returns."""


class _Later(Exception):
    """Not now. `whole` says that the trouble isn't this mail's: the others needn't try before."""

    def __init__(self, code: str, *, wait: int | None = None, whole: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.wait = wait
        self.whole = whole


@dataclass(slots=True)
class _Held:
    """An outcome in hand, not yet acknowledged. `sent` says that its mail has gone, whatever failed since;
    `claimed` that no other mailbox sends it.
    """

    delivery: Delivery
    at: int
    tries: int = 0
    claimed: bool = False
    sent: bool = False


class Mailbox:
    """One role, driven by `step`, which is called by one thread. `seal` seals what nobody could read;
    `titles` say what the places are called where the handlers look. `steady` is a clock that nobody sets.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        mailer: Mailer,
        keys: RequestKeys,
        sent: Sent,
        seal: Callable[[bytes], bytes],
        settings: Settings,
        clock: Callable[[], int],
        steady: Callable[[], int] | None = None,
        metrics: Metrics | None = None,
        most_held: int = MOST_HELD,
        schemas: Resolver | None = None,
        titles: Titles | None = None,
    ) -> None:
        self._schemas = schemas
        self._titles = {} if titles is None else titles
        self._bus = bus
        self._mailer = mailer
        self._keys = keys
        self._sent = sent
        self._seal = seal
        self._settings = settings
        self._clock = clock
        # Only this process waits by it, so that it needs no clock that others share, and that may be set.
        self._steady = steady or clock
        self._hand_over = ANSWERS * micros(settings.smtp.timeout)
        self._metrics = Metrics() if metrics is None else metrics
        self._most_held = most_held
        self._held: dict[str, _Held] = {}
        self._away_until = 0
        self._subscription: Subscription | None = None

    # --- driving ---

    def step(self, timeout: float) -> int:
        """Waits up to `timeout` seconds for outcomes, then tries what is due, for a turn; gives how many are
        done.
        """
        # Raises while the database is away: nothing is tried then.
        self._clock()
        # Polled first, which tells what of it is still ours. With its hands full it takes nothing, but a
        # reader that asks for nothing falls out of its group.
        room = max(0, self._most_held - len(self._held))
        for delivery in self._subscribed().poll(0.0 if self._due() or not room else timeout, room):
            self._take(delivery)
        self._let_go()
        done, until = 0, self._steady() + TURN
        for held in self._due():
            done += self._try(held)
            if self._steady() >= until:
                break
        self._metrics.mails_waiting(len(self._held))
        return done

    def _take(self, delivery: Delivery) -> None:
        """One that comes once more, after its partition was away, is the same outcome; but only the delivery
        that came last can be acknowledged.
        """
        held = self._held.setdefault(delivery.place, _Held(delivery, self._steady()))
        held.delivery = delivery

    def _let_go(self) -> None:
        """What has gone to another is forgotten, but for what was sent and may have to be recorded yet."""
        holds = self._subscribed().holds
        self._held = {place: held for place, held in self._held.items() if held.sent or holds(held.delivery)}

    def next_try_at(self) -> int | None:
        """When the next held mail is due; None if none is held."""
        return min((max(held.at, self._away_until) for held in self._held.values()), default=None)

    def run(self, stop: threading.Event, timeout: float = 1.0) -> None:
        """Steps until `stop` is set. What fails around it (the bus, the store) is waited out."""
        try:
            while not stop.is_set():
                try:
                    done = self.step(timeout)
                except Exception:
                    _logger.exception("mailbox_step_failed")
                    stop.wait(timeout)
                    continue
                if not done and len(self._held) >= self._most_held:
                    stop.wait(timeout)  # as the poll would have done, had there been room to poll
        finally:
            self.close()

    def close(self) -> None:
        """Gives back what is not acknowledged; another mailbox, or this one later, will get it."""
        self._held.clear()
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            self._subscription = self._bus.subscribe(GROUP, [topics.OUTCOMES])
        return self._subscription

    def _due(self) -> list[_Held]:
        now = self._steady()
        due = sorted((held for held in self._held.values() if held.at <= now), key=lambda held: held.at)
        return due if now >= self._away_until else []

    # --- one outcome ---

    def _try(self, held: _Held) -> bool:
        """Whether the outcome is done with, and acknowledged."""
        now = self._steady()
        if now < self._away_until:
            held.at = self._away_until
            return False
        if not held.sent and not self._subscribed().holds(held.delivery):
            # Partitions move while a batch is in hand, and another mailbox sends the rest of it.
            return False
        try:
            self._deal_with(held)
        except _Later as later:
            self._hold(held, later)
            return False
        except BusUnavailable:
            self._hold(held, _Later("bus_unavailable"))
            return False
        except Exception:
            # The store, the keyring, or a fault of ours: whatever it is, the outcome must not be lost.
            _logger.exception("outcome_failed", extra=_place(held.delivery))
            self._hold(held, _Later("internal"))
            return False
        self._away_until = 0
        self._subscribed().ack(held.delivery)
        self._held.pop(held.delivery.place, None)
        return True

    def _hold(self, held: _Held, later: _Later) -> None:
        smtp = self._settings.smtp
        held.tries += 1
        wait = later.wait
        if wait is None:
            wait = min(micros(smtp.retry_cap), micros(smtp.retry_first) * 2 ** min(held.tries - 1, 30))
        held.at = self._steady() + wait
        if later.whole:
            self._away_until = held.at
        _logger.warning(
            "mail_held",
            extra={"code": later.code, "attempt": held.tries, "seconds": wait / 1e6, **_place(held.delivery)},
        )

    def _deal_with(self, held: _Held) -> None:
        try:
            outcome = decode(held.delivery.value, Outcome, registry=self._schemas)
        except CodecError as error:
            code = "unknown_schema" if isinstance(error, UnknownSchema) else "malformed_message"
            self._bury(held.delivery, code)
            return
        try:
            if outcome.kind == "notice":
                self._notify(held, outcome)
            elif not self._has_gone(held, outcome):
                self._inform(outcome)
                self._mark(held, outcome)
        finally:
            self._release(held, outcome)

    def _has_gone(self, held: _Held, outcome: Outcome) -> bool:
        if held.sent:
            # Recording it may be what failed; unrecorded, a repeat of the outcome would be mailed again.
            self._sent.record(outcome.event_id)
            return True
        whose = self._sent.claim(outcome.event_id, self._hand_over)
        if whose == "theirs":
            raise _Later("in_other_hands")
        held.claimed = whose == "ours"
        return whose == "sent"

    def _mark(self, held: _Held, outcome: Outcome) -> None:
        held.sent = True  # recording may fail, and then this process at least doesn't send it again
        self._sent.record(outcome.event_id)

    def _release(self, held: _Held, outcome: Outcome) -> None:
        """What was not sent another may send at once, should it get it."""
        if held.claimed and not held.sent:
            try:
                self._sent.release(outcome.event_id)
            except Exception:
                # The claim is ours until it ends by itself. What became of the mail counts for more.
                _logger.warning("claim_kept", extra={"request_id": outcome.request_id})
        held.claimed = False

    # --- to the officer ---

    def _inform(self, outcome: Outcome) -> None:
        language = self._settings.dpo.language
        try:
            text = dpo.render(outcome, self._settings, self._titles)
        except Exception:
            _logger.exception("outcome_without_words", extra={"request_id": outcome.request_id})
            text = dpo.plain(outcome, language)
        address = self._settings.dpo.address
        mail = self._mail(outcome, address, dpo.subject(outcome, language), text, language)
        try:
            self._mailer.send(mail, address)
        except MailDeferred as error:
            raise self._deferred(outcome, "dpo", error) from None
        except MailRefused as error:
            self._metrics.mail(outcome.kind, "dpo", "refused")
            _logger.error(
                "dpo_mail_refused",
                extra={"request_id": outcome.request_id, "code": error.code, "status": error.status},
            )
            raise _Later("refused", wait=micros(self._settings.smtp.retry_refused)) from None
        self._count_sent(outcome, "dpo")

    # --- to the subject ---

    def _notify(self, held: _Held, outcome: Outcome) -> None:
        failed = None
        if not self._has_gone(held, outcome):
            failed = self._send_notice(outcome)
            if failed is None:
                self._mark(held, outcome)
        trace = trace_of(held.delivery.header(HEADER))
        self._confirm(outcome, "notice_sent" if failed is None else "notice_failed", failed, trace)

    def _send_notice(self, outcome: Outcome) -> str | None:
        """Sends it, or gives the code of why it can't ever be."""
        if self._settings.notices.subject == "none":
            return "notices_off"
        address = self._address_of(outcome)
        if not isinstance(address, _Address):
            return address
        try:
            text = notice.render(outcome, self._settings, self._titles)
        except notice.NoSuchNotice:
            return "no_such_notice"
        try:
            mail = self._mail(
                outcome, address.value, notice.subject(outcome), text, outcome.language, to_subject=True
            )
            self._mailer.send(mail, address.value)
        except MailDeferred as error:
            raise self._deferred(outcome, "subject", error) from None
        except (MailRefused, HeaderRefused) as error:
            self._metrics.mail(outcome.kind, "subject", "refused")
            code = "refused" if isinstance(error, MailRefused) else "unusable_address"
            _logger.warning("notice_refused", extra={"request_id": outcome.request_id, "code": code})
            return code
        self._count_sent(outcome, "subject")
        return None

    def _address_of(self, outcome: Outcome) -> "_Address | str":
        if outcome.sealed_identifiers is None:
            return "no_address"
        try:
            key = self._keys.key_of(outcome.request_id)
            identifiers = Identifiers.from_bytes(
                unseal(key, outcome.request_id, IDENTIFIERS, outcome.sealed_identifiers)
            )
        except KeyDestroyed:
            return "key_destroyed"
        except (KeyUnknown, GenerationUnknown):
            raise _Later("key_unknown") from None
        except (SealBroken, IdentifiersBroken, GenerationForgotten):
            return "unreadable_identifiers"
        match identifiers.notice_addresses:
            case ():
                return "no_address"
            case (address,):
                return _Address(address)
            case _:
                return "several_addresses"

    def _confirm(self, outcome: Outcome, kind: ConfirmationKind, code: str | None, trace: str | None) -> None:
        now = self._clock()
        cause = sha256(f"{outcome.event_id}/{kind}/{code}".encode()).hexdigest()
        confirmation = Confirmation(
            event_id=f"notice:{cause[:32]}",
            request_id=outcome.request_id,
            system=None,
            command_id=outcome.event_id,
            kind=kind,
            occurred_at=now,
            code=code,
            retryable=False,
        )
        record = Record(
            topic=topics.CONFIRMATIONS,
            key=outcome.request_id,
            value=encode(confirmation),
            headers=headers(confirmation, event_id=confirmation.event_id, source=SOURCE, at=now, trace=trace),
        )
        self._bus.publish([record])

    # --- both ---

    def _mail(
        self,
        outcome: Outcome,
        recipient: str,
        subject: str,
        text: str,
        language: str,
        *,
        to_subject: bool = False,
    ) -> EmailMessage:
        domain = self._settings.installation.domain
        return compose(
            sender=self._settings.smtp.sender,
            sender_name=self._settings.installation.name if to_subject else None,
            recipient=recipient,
            reply_to=self._settings.dpo.address if to_subject else None,
            subject=subject,
            text=text,
            at=self._clock(),
            message_id=message_id(domain, outcome.request_id, outcome.event_id),
            references=(thread_id(domain, outcome.request_id),),
            language=language,
        )

    def _deferred(self, outcome: Outcome, to: str, error: MailDeferred) -> _Later:
        self._metrics.mail(outcome.kind, to, "deferred")
        return _Later(error.code, whole=error.is_about_server)

    def _count_sent(self, outcome: Outcome, to: str) -> None:
        self._metrics.mail(outcome.kind, to, "sent")
        _logger.info("mail_sent", extra={"request_id": outcome.request_id, "kind": outcome.kind, "role": to})

    def _bury(self, delivery: Delivery, code: str) -> None:
        """Keeps a record that can't be read, sealed, beside its topic."""
        self._bus.publish(
            [
                Record(
                    topic=topics.dead_letters(delivery.topic),
                    key="",
                    value=self._seal(delivery.value),
                    headers=dead_letter_headers(delivery, code, self._seal),
                )
            ]
        )
        self._metrics.dead_letter(delivery.topic)
        _logger.error("dead_letter", extra={"code": code, **_place(delivery)})


class _Address:
    """An address that shows in no repr."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value


def _place(delivery: Delivery) -> dict[str, object]:
    return {"topic": delivery.topic, "partition": delivery.partition, "offset": delivery.offset}
