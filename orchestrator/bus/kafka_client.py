"""kafka-python, as the bus uses it: how its clients are set up, and what must be known of their insides.

What is known of versions 3.0.9 to 3.0.12, from their source and from trying:

* Nothing is made by asking for it: `allow_auto_create_topics` does not reach the part that asks, so it is
  set there.
* A client whose construction fails leaves its thread and sockets behind, and a connection that is refused
  leaves its socket; here they are closed.
* It waits without end for a broker that says nothing while TLS is agreed on, and leaves the socket of one
  with which it can't be (`_Encrypted`).
* What comes together with the end of a connection is thrown away: the reason, where a broker refuses a login
  (`_Whole`).
* A consumer reads raw bytes. Reading a record that can't be parsed raises, and the poll after that would
  never return: the broken part must be let go first (`unwedge`).
* A poll that ends while the group is being joined forgets that it was: the answer, when it comes, is thrown
  away, and the member stays out without a heartbeat, for ever if it was its own wish to join anew
  (`_Member`).
* `commit_async` says that positions are stored when all it has done is to find the group's broker anew
  (`send_positions`).
* A member that was thrown out of its group still claims the partitions that it had (`forget_ownership`).
* A static member whose place was taken stops its heartbeat and reads on (`is_fenced`).
* Giving a producer up must not wait for what it has not sent (`abandon`).
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.errors import InvalidReceiveError, KafkaConnectionError, KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket, create_connection
from kafka.net.sasl.oauth import AbstractTokenProvider
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.partitioner.default import murmur2
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata
from kafka.util import WeakMethod

from orchestrator.bus.kafka_failures import HungUp, NoToken, is_refusal, is_telling, unavailable
from orchestrator.bus.kafka_marks import id_text
from orchestrator.bus.port import BusUnavailable
from orchestrator.position import Position, mark_of
from orchestrator.secret import SecretUnavailable
from orchestrator.settings import Kafka

Place = tuple[str, int]
"""A topic and a partition."""

# A broker that comes back is found within this time, and a topic that is made within the other.
_LONGEST_RECONNECT_MS = 2_000
_METADATA_RETRY_MS = 250
_STORE_RETRY = 0.05


def connection(settings: Kafka, token: Callable[[], str] | None = None) -> dict[str, Any]:
    """What every client needs to reach the brokers. Secrets are read now; a token, for each connection.

    Raises:
        BusUnavailable: a secret or a certificate is not where the settings say.
    """
    config: dict[str, Any] = {
        "bootstrap_servers": list(settings.servers),
        "client_id": "radera",
        "reconnect_backoff_max_ms": _LONGEST_RECONNECT_MS,
        "proxy_url": f"{_Direct.SCHEMES[0]}://",
    }
    if settings.security == "tls":
        config["ssl_context"] = _tls(settings)
    try:
        if settings.mechanism == "OAUTHBEARER":
            read = token or (settings.token.read if settings.token is not None else None)
            config["sasl_oauth_token_provider"] = _Token(read)
        elif settings.password is not None:
            config["sasl_plain_username"] = settings.username
            config["sasl_plain_password"] = settings.password.read()
    except SecretUnavailable as error:
        raise BusUnavailable(str(error), code="secret_unavailable") from None
    encrypted = settings.security == "tls"
    if settings.mechanism is None:
        config["security_protocol"] = "SSL" if encrypted else "PLAINTEXT"
    else:
        config["security_protocol"] = "SASL_SSL" if encrypted else "SASL_PLAINTEXT"
        config["sasl_mechanism"] = settings.mechanism
    return config


def _tls(settings: Kafka) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise _unusable("kafka.ca_file", error, "not PEM") from None
    if settings.certificate_file is not None:
        try:
            context.load_cert_chain(settings.certificate_file, settings.key_file, _no_password)
        except (OSError, _Locked) as error:
            why = "not PEM, a key with a password, or the key of another certificate"
            raise _unusable("kafka.certificate_file or kafka.key_file", error, why) from None
    return context


class _Locked(Exception):
    """A key is protected by a password, which nobody is there to type."""


def _no_password() -> str:
    raise _Locked


def _unusable(setting: str, error: Exception, otherwise: str) -> BusUnavailable:
    # OpenSSL's errors are of this type, too, and then say nothing that helps.
    why = otherwise
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        why = error.strerror or why
    return BusUnavailable(f"{setting} can't be used ({why}): mend the file", code="certificate_unusable")


class _Token(AbstractTokenProvider):  # type: ignore[misc]  # the library has no types
    """Asked by the library for each connection."""

    def __init__(self, read: Callable[[], str] | None) -> None:
        super().__init__()
        self._read = read

    def token(self) -> str:
        try:
            if self._read is None:
                raise SecretUnavailable("no token for OAUTHBEARER: set kafka.token")
            return self._read()
        except SecretUnavailable as error:
            raise NoToken from error


class _Direct(KafkaNetSocket):  # type: ignore[misc]  # the library has no types
    """A way to connect, by the scheme of a "proxy": straight, and closed if it fails."""

    SCHEMES = ("direct",)

    async def sock_connect(self, net: Any, sock: socket.socket, *args: Any, **more: Any) -> socket.socket:
        try:
            await super().sock_connect(net, sock, *args, **more)
        except BaseException:
            sock.close()
            raise
        return sock


class _Whole:
    """A connection of which the last words are heard."""

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        heard: tuple[bytes, Exception | None] = super()._sock_recv()  # type: ignore[misc]  # the transport's
        data, end = heard
        # The end is there to be read again.
        return data, None if data else end


class _Plain(_Whole, KafkaTCPTransport):  # type: ignore[misc]  # the library has no types
    """A connection without TLS."""


class _Encrypted(_Whole, KafkaSSLTransport):  # type: ignore[misc]  # the library has no types
    """A connection with TLS."""

    async def agree(self, timeout_at: float | None) -> None:
        """Returns when both sides have agreed on TLS. One that can't be had is closed."""
        try:
            while True:
                try:
                    self._sock.do_handshake()
                except ssl.SSLWantReadError:
                    await self._net.wait_read(self._sock, timeout_at=timeout_at)
                except ssl.SSLWantWriteError:
                    await self._net.wait_write(self._sock, timeout_at=timeout_at)
                else:
                    return
        except BaseException:
            self.close()
            raise


class Client(KafkaNetClient):  # type: ignore[misc]  # the library has no types
    """The library's connections to the brokers."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.cluster.config["allow_auto_create_topics"] = False
        self.cluster.config["retry_backoff_ms"] = _METADATA_RETRY_MS
        self.failure: Exception | None = None
        self._connect = self._manager.get_connection
        self._manager.get_connection = self._watched
        self._manager._build_transport = self._transport  # noqa: SLF001 - no setting names it

    def _watched(self, node: Any, *args: Any, **more: Any) -> Any:
        known = self._manager._conns.get(node)  # noqa: SLF001 - told in no other way
        made = self._connect(node, *args, **more)
        if made is not known:
            made.init_future.add_callback(self._began)
            made.close_future.add_errback(lambda error: self._ended(made, error))
        return made

    def _began(self, _: Any) -> None:
        self.failure = None

    def _ended(self, connection: Any, error: Exception) -> None:
        was_open = connection.parser is not None
        if was_open and isinstance(error, KafkaConnectionError | InvalidReceiveError):
            error = error if is_telling(error) else HungUp()
        # A broker that refuses us may hang up the next time, which says less.
        if is_telling(error) or not is_telling(self.failure):
            self.failure = error

    async def _transport(self, node: Any, timeout_at: float | None = None) -> Any:
        config = self._manager.config
        way = (config["socket_options"], config["proxy_url"])
        sock = await create_connection(self._net, node.host, node.port, *way, timeout_at=timeout_at)
        if not self._manager.ssl_enabled:
            return _Plain(self._net, sock, host=node.host)
        made = _Encrypted(self._net, sock, host=node.host, ssl_context=config["ssl_context"])
        try:
            await made.agree(timeout_at)
        except (OSError, KafkaError) as error:
            raise KafkaConnectionError("TLS could not be agreed on") from error
        return made


class _Made:
    """Makes the client of a consumer, producer or admin, and closes it if they fail to be made."""

    def __init__(self) -> None:
        self._clients: list[Client] = []

    def __call__(self, **config: Any) -> Client:
        self._clients.append(Client(**config))
        return self._clients[-1]

    def close(self) -> Exception | None:
        """How the last connection failed, if one did."""
        failures = [client.failure for client in self._clients]
        for client in self._clients:
            client.close()
        return next(filter(None, failures), None)


def made(make: Callable[..., Any], config: Mapping[str, Any]) -> Any:
    """A client of the library's; one that can't be made leaves nothing behind.

    Raises:
        BusUnavailable: no broker answers, or not to us.
    """
    clients = _Made()
    try:
        return make(kafka_client=clients, **config)
    except BaseException as error:
        failure = clients.close()
        if not isinstance(error, Exception):
            raise
        # A wrong password, say, would otherwise pass for a broker that does not answer.
        why = failure if failure is not None and isinstance(error, KafkaTimeoutError) else error
        raise unavailable("the bus can't be reached", why) from error


class _Member(ConsumerCoordinator):  # type: ignore[misc]  # the library has no types
    """Takes part in the group for a consumer, and keeps an answer until a poll takes it."""

    _answer: tuple[float, int, bytes] | None = None

    def need_rejoin(self) -> bool:
        # A join that has begun is ended, also when what called for it is over.
        return bool(self.rejoining or super().need_rejoin())

    def send_positions(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> Any:
        """The answer to it, and not, as with `commit_async`, at times the answer to another question."""
        return self._manager.call_soon(self._send_offset_commit_request, offsets)

    async def _do_join_and_sync_async(self) -> bytes:
        kept, self._answer = self._answer, None
        if kept is not None and self.rebalance_in_progress():
            at, generation, assignment = kept
            fresh = time.monotonic() - at < self.config["session_timeout_ms"] / 2000
            if fresh and generation == self._generation.generation_id:
                return assignment
        assignment = bytes(await super()._do_join_and_sync_async())
        self._answer = (time.monotonic(), self._generation.generation_id, assignment)
        return assignment

    async def _on_join_complete_async(self, *args: Any) -> None:
        self._answer = None
        await super()._on_join_complete_async(*args)


class Consumer(KafkaConsumer):  # type: ignore[misc]  # the library has no types
    """A member of a group."""

    def __init__(self, *, assignor: CooperativeStickyAssignor, **config: Any) -> None:
        self._ours = assignor
        super().__init__(partition_assignment_strategy=[assignor], **config)
        theirs: Any = self._coordinator
        self._coordinator: Any = _Member(
            self._client, self._subscription, metrics=None, assignors=[assignor], **self.config
        )
        # What it listens with is known by weak reference, and called also when it is gone.
        self._cluster.remove_listener(WeakMethod(theirs._handle_metadata_update))  # noqa: SLF001 - its own way

    # --- the group ---

    @property
    def knows_group(self) -> bool:
        """Whether some broker answers for the group."""
        return not self._coordinator.coordinator_unknown()

    @property
    def refusal(self) -> Exception | None:
        """Why the brokers let us in no longer, if a consumer that is made anew may be let in."""
        return _refusal(self._client)

    @property
    def is_fenced(self) -> bool:
        """Whether another process has joined under this one's name: heartbeats end then, and nothing else."""
        member = self._coordinator
        beats: bool = member._heartbeat_enabled  # noqa: SLF001 - told in no other way
        return bool(member.stable()) and not beats and not member.rejoining

    @property
    def member(self) -> str:
        """Who this is in the group, while it is in it; a new one after having been thrown out."""
        known: ConsumerGroupMetadata = self.group_metadata()
        return str(known.member_id) if self._coordinator.stable() else ""

    def forget_ownership(self) -> None:
        """Claims nothing at the next rebalance."""
        self._ours.member_assignment = None

    # --- positions ---

    def store(self, offsets: Mapping[Place, int], limit: float) -> None:
        """Stores the group's positions, or raises what the library says of it."""
        deadline = time.monotonic() + limit
        while (left := deadline - time.monotonic()) > 0:
            if not self._coordinator.ensure_coordinator_ready(timeout_ms=int(left * 1000)):
                break
            stored = threading.Event()
            future = self._coordinator.send_positions(_committed(offsets))
            future.add_both(lambda _, stored=stored: stored.set())
            if not stored.wait(deadline - time.monotonic()):
                break
            if not future.failed():
                return
            if not future.retriable():
                raise future.exception
            time.sleep(_STORE_RETRY)
        raise KafkaTimeoutError("the positions were not stored in time")

    def stored(self, places: Collection[Place], limit: float) -> dict[Place, Position]:
        """The group's positions, on those partitions where it has one."""
        partitions = [TopicPartition(*place) for place in places]
        found = self._coordinator.fetch_committed_offsets(partitions, timeout_ms=int(limit * 1000))
        return {
            tuple(partition): Position(at.offset, at.metadata or "")
            for partition, at in found.items()
            if at.offset >= 0
        }

    def topic_id(self, topic: str) -> str:
        """The topic's id, as the brokers last told it; empty where they don't tell."""
        return id_text(self._cluster.topic_id(topic))

    def extent(self, places: Collection[Place], limit: float) -> dict[Place, tuple[int, int]]:
        """The oldest offset of each partition, and the one after its newest; a partition that no broker leads
        now can't be asked, and is left out.
        """
        leader = self._cluster.leader_for_partition
        led = [one for one in (TopicPartition(*place) for place in places) if leader(one) not in (None, -1)]
        firsts = self.beginning_offsets(led, timeout_ms=int(limit * 1000))
        ends = self.end_offsets(led, timeout_ms=int(limit * 1000))
        return {tuple(one): (firsts[one], ends[one]) for one in led}

    def reads_at(self, place: Place) -> int | None:
        """The offset that is read next; None while the library looks for it."""
        state = self._subscription.assignment.get(TopicPartition(*place))
        return state.position.offset if state is not None and state.position is not None else None

    def begin_storing(self, offsets: Mapping[Place, int]) -> None:
        """The same without waiting, for the library's own thread: it is sent before whatever is sent next."""
        self._coordinator.send_positions(_committed(offsets))

    # --- records ---

    def broken_record(self) -> tuple[Place, int] | None:
        """Where reading last stopped, after it raised."""
        part = self._part()
        if part is None:
            return None
        return (part.topic_partition.topic, part.topic_partition.partition), part.next_fetch_offset

    def unwedge(self) -> None:
        """Lets go of a part that can't be read, so that it is fetched again."""
        part = self._part()
        if part is not None:
            part.drain()

    def _part(self) -> Any:
        return self._fetcher._next_partition_records  # noqa: SLF001 - told in no other way

    def abandon(self, limit: float) -> None:
        """Leaves the group and closes, whatever state this is in."""
        try:
            self.close(autocommit=False, timeout_ms=int(limit * 1000))
        finally:
            self._client.close()


def _refusal(client: Client) -> Exception | None:
    return client.failure if is_refusal(client.failure) else None


def _committed(offsets: Mapping[Place, int]) -> dict[TopicPartition, OffsetAndMetadata]:
    return {
        TopicPartition(*place): OffsetAndMetadata(int(offset), mark_of(offset), -1)
        for place, offset in offsets.items()
    }


def partition_among(partitions: Collection[int], key: bytes) -> int:
    """Where the library would put a record of this key, as Java's clients do. It reckons that out anew for
    each record, and a request's records come by the dozen.
    """
    return sorted(partitions)[_hash_of(key) % len(partitions)]


@lru_cache(maxsize=4096)
def _hash_of(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFFFFFF


class Producer(KafkaProducer):  # type: ignore[misc]  # the library has no types
    """Sends records."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self._wake: Callable[[], None] = self._sender.wakeup
        self._sender.wakeup = self._wake_in_time
        self._holds = False

    def _wake_in_time(self) -> None:
        if not self._holds:
            self._wake()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Has the library's thread begin when everything is handed over. Left to itself it is woken by each
        record that opens a batch, looks at all partitions each time, and sends in bits.
        """
        self._holds = True
        try:
            yield
        finally:
            self._holds = False
            self._wake()

    @property
    def refusal(self) -> Exception | None:
        """Why the brokers let us in no longer, if a producer that is made anew may be let in."""
        return _refusal(self._sender._client)  # noqa: SLF001 - told in no other way

    def partition_of(self, topic: str, key: bytes | None) -> int | None:
        """The partition for a record of this key; None where the library may choose.

        Raises:
            KafkaTimeoutError: no broker knows the topic.
        """
        partitions = self._metadata.partitions_for_topic(topic)
        if not partitions:
            # This waits for the library's thread.
            self._holds = False
            partitions = self.partitions_for(topic)
            self._holds = True
        if key is None:
            return None
        return partition_among(partitions, key) if partitions else None

    def abandon(self) -> None:
        """Gives up what was not sent, at once. Whoever waits for it hears that it failed."""
        self._unregister_cleanup()
        self._closed = True
        self._holds = False
        self._sender.force_close()
        self._sender.join(1.0)
