"""From records on the bus to events of a saga.

Whatever can't be read becomes something that is kept: a request nobody can read is a person whose clock
runs, so it opens a saga by itself, dated by the record; any other unreadable record is dead-lettered.
Nothing here touches the saga's state.
"""

import re
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from orchestrator.bus.dead_letters import REPLAYED
from orchestrator.bus.port import Delivery
from orchestrator.privacy.digest import Digests
from orchestrator.privacy.exchange import Exchange
from orchestrator.privacy.guard import find_personal, looks_personal
from orchestrator.privacy.identifiers import KINDS, Identifier, Identifiers, IdentifiersBroken, Kind, clean
from orchestrator.privacy.keyring import GenerationForgotten, GenerationUnknown
from orchestrator.privacy.keys import KeyDestroyed, KeyUnknown, RequestKeys
from orchestrator.privacy.sealing import IDENTIFIERS, SealBroken, new_key, seal_alike, unseal
from orchestrator.saga.events import Confirmed, Decided, Event, RequestReceived, RequestUnreadable
from orchestrator.saga.model import Place, Saga
from schemas import topics
from schemas.codec import CodecError, Resolver, UnknownSchema, decode
from schemas.messages import ClearIdentifier, Confirmation, Decision, Request
from schemas.traceparent import HEADER, trace_of

_NAMESPACE = uuid.UUID("3c1d1c53-4a53-5d35-8d3b-8b4f0f5b1a4e")
# Whose records are read with the request's key.
_WITH_KEY = (topics.REQUESTS, topics.DECISIONS)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: What stands in the record for a reason that quoted the person.
WITHHELD = "(withheld: it quoted the person)"

#: An evidence's name gets the verb in front of it, and is a token then, too.
_LONGEST_NAME = 70
#: The first day of the year 9999: no calendar of ours goes further.
_LATEST = 253_370_764_800_000_000

#: Why identifiers can't be read, now or ever. A master key that is not in the keyring is not among them: it
#: may come yet, and is waited for.
_CLOSED = (KeyUnknown, GenerationForgotten, SealBroken, IdentifiersBroken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """One delivery, understood as far as it can be.

    `event` is what it means for a saga; its request may still have to be found by `correlation`. `dead` is
    the code under which the record is dead-lettered instead, or (with an event) as well. `request` and
    `identifiers` stay with a request, to tell a supplement from a conflict. `key` is the request's, read here
    because a transaction must not ask for another connection; None where it can't be had. `generation` is
    that of a master key which a request needs and which is not in the keyring yet: it waits for it, for ever
    if `is_ours`, since then this installation has filed the key; else it is the producer's word. `event` is
    then what it means if it waits no longer. `is_unasked` says that no request is known for its correlation.
    """

    delivery: Delivery
    type: str
    event: Event | None = None
    dead: str | None = None
    correlation: str | None = None
    correlations: tuple[str, ...] = ()
    request: Request | None = field(default=None, repr=False)
    identifiers: Identifiers | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    generation: int | None = None
    is_ours: bool = False
    is_unasked: bool = False


class FiledKeys(RequestKeys, Protocol):
    """The requests' keys, many at a time, with the side that files them."""

    def keys_of(self, request_ids: Collection[str]) -> Mapping[str, bytes]:
        """The keys of those requests that have one which can be opened."""

    def insert(self, request_id: str, key: bytes) -> object:
        """Files a key, unless the request has one or had one."""


class ClearIdentifiers(Exception):
    """The request names the person in clear, which the settings don't allow."""


class _GenerationSaid(GenerationUnknown):
    """The request's producer says that master key generation {number} wraps its key, and it is not in the
    keyring."""


class Reader:
    """Reads deliveries. `random` draws the number that an event brings for back-off; `exchange` opens what
    producers outside wrapped to the installation's public key; `schemas` knows the schemas that they
    registered. `region` is the country of telephone numbers without a country code; identifiers in clear are
    refused unless the reader `takes_clear`.
    """

    def __init__(
        self,
        keys: FiledKeys,
        digests: Digests,
        random: Callable[[], float],
        exchange: Exchange | None = None,
        *,
        schemas: Resolver | None = None,
        region: str | None = None,
        takes_clear: bool = False,
    ) -> None:
        self._schemas = schemas
        self._region = region
        self._takes_clear = takes_clear
        self._keys = keys
        self._at_hand: Mapping[str, bytes] = {}
        self._exchange = exchange
        self._digests = digests
        self._random = random

    def read_all(self, deliveries: Iterable[Delivery]) -> list[Inbound]:
        """The same as `read` for each, with one question to the store for all their keys."""
        batch = list(deliveries)
        # A record's key is anybody's word for the request's id: it says only where looking may be worth it.
        named = {one.key for one in batch if one.topic in _WITH_KEY and _UUID.fullmatch(one.key)}
        self._at_hand = self._keys.keys_of(named) if named else {}
        try:
            return [self.read(delivery) for delivery in batch]
        finally:
            self._at_hand = {}

    def read(self, delivery: Delivery) -> Inbound:
        """Never raises for what the record holds; only for a store that can't be reached, or for a keyring
        that can't be read.
        """
        inbound = self._understood(delivery)
        attempt = delivery.header(REPLAYED)
        if attempt is None or inbound.event is None:
            return inbound
        # Seen before and set aside; the operator wants it applied now, so it must not pass for a repeat.
        event_id = f"{inbound.event.event_id}/replay-{attempt.decode('ascii', 'replace')}"
        return replace(inbound, event=replace(inbound.event, event_id=event_id))

    def _understood(self, delivery: Delivery) -> Inbound:
        match delivery.topic:
            case topics.REQUESTS:
                return self._request(delivery)
            case topics.CONFIRMATIONS:
                return self._confirmation(delivery)
            case topics.DECISIONS:
                return self._decision(delivery)
            case _:
                return Inbound(delivery=delivery, type="other", dead="unexpected_topic")

    # --- requests ---

    def _request(self, delivery: Delivery) -> Inbound:
        try:
            request = decode(delivery.value, Request, registry=self._schemas)
        except CodecError as error:
            return self.unreadable(delivery, _code_of(error))
        key: bytes | None = None
        sealed = request.sealed_identifiers
        digest = ""
        try:
            key, identifiers, sealed = self._opened_request(request)
            digest = self.content_digest(identifiers, request)
        except KeyDestroyed:
            # The request under this id has ended. Whom this one names serves to compare them alone.
            identifiers = Identifiers(())
            with suppress(ClearIdentifiers, GenerationUnknown, *_CLOSED):
                digest = self.content_digest(self._named_after_the_end(request), request)
        except (ClearIdentifiers, GenerationUnknown, *_CLOSED) as error:
            # Not under the event's own id: mended and sent again, it must not pass for a repeat.
            closed = self.unreadable(delivery, _code_of(error), event_id=f"unreadable:{request.event_id}")
            if not isinstance(error, GenerationUnknown):
                return closed
            number = int(str(error.details["number"]))
            return replace(closed, generation=number, is_ours=not isinstance(error, _GenerationSaid))
        event = RequestReceived(
            event_id=request.event_id,
            request_id=request.request_id,
            random=self._random(),
            received_at=request.received_at,
            source=request.source,
            capacity=request.capacity,
            tenant=request.tenant,
            language=request.language,
            verified=request.verified,
            scope=request.scope,
            identifiers=sealed,
            identifier_kinds=tuple(sorted({item.kind for item in identifiers.searched})),
            content_digest=digest,
            subject_digest=self._digests.subject(identifiers),
            trace=_trace(delivery, identifiers),
        )
        # Nothing after this has a use for them.
        request = request.model_copy(update={"identifiers": None})
        return Inbound(
            delivery=delivery, type="request", event=event, request=request, identifiers=identifiers, key=key
        )

    def _opened_request(self, request: Request) -> tuple[bytes, Identifiers, bytes]:
        """The request's key, whom the request names, and these sealed under the key.

        * A key that is filed is the request's for good, until it is destroyed: a producer may make one each
          time, and one under which something lay here without being in the table would outlive the end.
        * A key that came with the request is unwrapped only where the filed one opens nothing: when the
          request is new here, or new again since the database was put back from a backup, or comes under
          another key. It is filed only if it opens what came with it: one that belongs to no saga would never
          be destroyed.
        * What a producer outside wrote is brought into our own form, whatever its was. It is the same form
          when the record is read again: the answers that are there already are about these bytes.
        """
        request_id = request.request_id
        is_clear = request.identifiers is not None
        if is_clear:
            self._check_clear(request)
        filed = self._filed_key(request_id)
        if not is_clear and request.wrapped_key is None:
            if filed is None:
                raise KeyUnknown(request_id)
            return filed, _opened(filed, request_id, request.sealed_identifiers), request.sealed_identifiers
        key, named = self._from_outside(request, filed)
        if filed is None and self._keys.insert(request_id, key) != "new":
            filed = self._keys.key_of(request_id)
        key = filed or key
        return key, named, seal_alike(key, request_id, IDENTIFIERS, named.to_bytes())

    def _named_after_the_end(self, request: Request) -> Identifiers:
        """Whom a request names whose filed key is destroyed, as far as it can be opened without that."""
        if request.identifiers is not None:
            self._check_clear(request)
            return self._cleaned([_identifier(one) for one in request.identifiers])
        return self._unsealed(self._senders_key(request), request)

    def _check_clear(self, request: Request) -> None:
        if not self._takes_clear:
            raise ClearIdentifiers
        if request.sealed_identifiers or request.wrapped_key is not None:
            raise IdentifiersBroken

    def _from_outside(self, request: Request, filed: bytes | None) -> tuple[bytes, Identifiers]:
        """The key that opens what came, or that is made for it, and whom it names."""
        if request.identifiers is not None:
            named = self._cleaned([_identifier(one) for one in request.identifiers])
            if self._exchange is None:
                return new_key(), named
            return self._exchange.key_for(request.request_id, named.to_bytes()), named
        if filed is not None:
            with suppress(SealBroken):
                return filed, self._unsealed(filed, request)
        senders = self._senders_key(request)
        return senders, self._unsealed(senders, request)

    def _unsealed(self, key: bytes, request: Request) -> Identifiers:
        data = unseal(key, request.request_id, IDENTIFIERS, request.sealed_identifiers)
        return self._cleaned(Identifiers.from_json(data))

    def _cleaned(self, items: Iterable[Identifier]) -> Identifiers:
        """One that nobody could be found by is not left out: "nothing found" would then be said of it."""
        cleaned = clean(items, region=self._region)
        if cleaned.refused:
            raise IdentifiersBroken
        return cleaned.identifiers

    def _senders_key(self, request: Request) -> bytes:
        """The key that came with the request, wrapped to us."""
        if self._exchange is None or request.wrapped_key is None or request.key_generation is None:
            raise KeyUnknown(request.request_id)
        try:
            return self._exchange.unwrap(request.wrapped_key, request.key_generation, request.request_id)
        except GenerationUnknown:
            pass
        raise _GenerationSaid(number=request.key_generation)

    def _filed_key(self, request_id: str) -> bytes | None:
        try:
            return self._key_of(request_id)
        except KeyUnknown:
            return None

    def _key_of(self, request_id: str) -> bytes:
        return self._at_hand.get(request_id) or self._keys.key_of(request_id)

    def unreadable(self, delivery: Delivery, code: str, event_id: str | None = None) -> Inbound:
        """A request that could not be taken in: it opens one by itself, under an id made of its place."""
        event = RequestUnreadable(
            event_id=event_id or f"unreadable:{delivery.place}",
            request_id=_id_of_place(delivery.place),
            random=self._random(),
            received_at=delivery.timestamp,
            code=code,
        )
        return Inbound(delivery=delivery, type="request", event=event, dead=code)

    def content_digest(self, identifiers: Identifiers, request: Request) -> str:
        """What makes two requests the same request."""
        return self._digests.content(
            identifiers, scope=request.scope, capacity=request.capacity, tenant=request.tenant
        )

    def added(self, inbound: Inbound, saga: Saga) -> tuple[Kind, ...]:
        """Return the kinds of what a request adds to what is known under its id; none where it does not
        repeat all of that, or differs in another way.
        """
        if inbound.request is None or inbound.identifiers is None or inbound.key is None:
            return ()
        try:
            before = _opened(inbound.key, saga.request_id, saga.all_identifiers)
        except (SealBroken, IdentifiersBroken):
            return ()
        known, now = set(before.items), set(inbound.identifiers.items)
        if self.content_digest(before, inbound.request) != saga.content_digest or not known < now:
            return ()
        return Identifiers(tuple(now - known)).kinds

    # --- confirmations and decisions ---

    def _confirmation(self, delivery: Delivery) -> Inbound:
        try:
            said = decode(delivery.value, Confirmation, registry=self._schemas)
        except CodecError as error:
            return Inbound(delivery=delivery, type="confirmation", dead=_code_of(error))
        if said.request_id is None and said.correlation is None:
            return Inbound(delivery=delivery, type="confirmation", dead="names_no_request")
        event = Confirmed(
            event_id=said.event_id,
            request_id=said.request_id or "",
            random=self._random(),
            kind=said.kind,
            system=said.system,
            occurred_at=said.occurred_at,
            command_id=said.command_id,
            verb=said.verb,
            attempt=said.attempt,
            found=said.found,
            erased=said.erased,
            done=said.done,
            references=said.sealed_references,
            grade=said.grade,
            end=said.end,
            legal_basis=said.legal_basis,
            retained_until=None if said.retained_until is None else min(said.retained_until, _LATEST),
            missing=said.missing,
            look_at=said.look_at,
            code=said.code,
            retryable=said.retryable,
            retry_after=said.retry_after,
            evidence={name[:_LONGEST_NAME]: value for name, value in said.evidence.items()},
            about=said.about,
            places=tuple(
                Place(name=one.name, looked=one.looked, by=one.by, not_by=one.not_by, reason=one.reason)
                for one in said.places
            ),
            order=said.order,
            said_at=said.said_at,
        )
        correlation = said.correlation if said.request_id is None else None
        return Inbound(
            delivery=delivery,
            type="confirmation",
            event=event,
            correlation=correlation,
            correlations=said.correlations,
        )

    def _decision(self, delivery: Delivery) -> Inbound:
        try:
            decision = decode(delivery.value, Decision, registry=self._schemas)
        except CodecError as error:
            return Inbound(delivery=delivery, type="decision", dead=_code_of(error))
        event = Decided(
            event_id=decision.event_id,
            request_id=decision.request_id,
            random=self._random(),
            action=decision.action,
            escalation_id=decision.escalation_id,
            escalation_version=decision.escalation_version,
            reason=decision.reason,
            decided_by=decision.decided_by,
            decided_at=decision.decided_at,
        )
        try:
            key = self._key_of(decision.request_id)
        except (KeyDestroyed, GenerationUnknown, *_CLOSED):
            key = None
        return Inbound(delivery=delivery, type="decision", event=event, key=key)


def named_before(one: Inbound, has_opened: Callable[[str, int], bool]) -> Inbound:
    """Give an unreadable request the id that earlier versions gave it, made of its offset alone, if the
    record was read then: if `has_opened` knows a request of that id that was received at that very time.
    """
    event, delivery = one.event, one.delivery
    if not isinstance(event, RequestUnreadable) or not delivery.mark:
        return one
    place = replace(delivery, mark="").place
    if not has_opened(_id_of_place(place), delivery.timestamp):
        return one
    event_id = event.event_id.replace(delivery.place, place)
    return replace(one, event=replace(event, event_id=event_id, request_id=_id_of_place(place)))


def _id_of_place(place: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, place))


def clean_reason(reason: str, inbound: Inbound, saga: Saga) -> str:
    """A DPO's reason stays on the record when the key is gone, so it must not quote the person. Where we
    don't know whom it might quote, it goes by its form.
    """
    if inbound.key is not None:
        try:
            person = _opened(inbound.key, saga.request_id, saga.all_identifiers)
        except (SealBroken, IdentifiersBroken):
            pass
        else:
            return WITHHELD if find_personal(reason, person) else reason
    return WITHHELD if looks_personal(reason) else reason


def _opened(key: bytes, request_id: str, sealed: bytes) -> Identifiers:
    return Identifiers.from_bytes(unseal(key, request_id, IDENTIFIERS, sealed))


def _identifier(given: ClearIdentifier) -> Identifier:
    if given.kind not in KINDS:
        raise IdentifiersBroken
    return Identifier(given.kind, given.value, given.site)


def _trace(delivery: Delivery, identifiers: Identifiers) -> str | None:
    """The trace that a request belongs to. It is kept and sent on in clear, so one that has the person in it,
    a telephone number among zeros say, is none; and who the person is must be known for that.
    """
    trace = trace_of(delivery.header(HEADER))
    if trace is None or not len(identifiers) or find_personal(trace, identifiers):
        return None
    return trace


def found_by_correlation(one: Inbound, resolved: Mapping[str, tuple[str, str]]) -> Inbound:
    """Gives a callback's confirmation the request that its correlation stands for. Without one it means
    nothing yet, or is about nobody who asked.
    """
    if one.correlation is None or one.event is None:
        return one
    place = resolved.get(one.correlation)
    if place is None:
        return replace(one, event=None, is_unasked=True)
    request_id, system = place
    event = one.event
    if not isinstance(event, Confirmed):
        raise TypeError("only a confirmation comes by correlation")
    return replace(one, event=replace(event, request_id=request_id, system=system))


def key_for_dead_letter(inbound: Inbound) -> str:
    """A dead letter's key: a request id and nothing else, since a stranger's record may be keyed by a
    name.
    """
    key = inbound.delivery.key
    return key if _UUID.fullmatch(key) else ""


def _code_of(error: Exception) -> str:
    if isinstance(error, UnknownSchema):
        return "unknown_schema"
    if isinstance(error, CodecError):
        return "malformed_message"
    return {
        "KeyUnknown": "key_unknown",
        "GenerationForgotten": "generation_forgotten",
        "GenerationLost": "generation_lost",
        "GenerationUnknown": "generation_unknown",
        "_GenerationSaid": "generation_unknown",
        "SealBroken": "seal_broken",
        "IdentifiersBroken": "identifiers_broken",
        "ClearIdentifiers": "clear_identifiers",
    }[type(error).__name__]
