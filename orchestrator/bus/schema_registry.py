"""A schema registry beside Kafka, after Confluent's REST API, and what it takes to go on without it.

* Our records leave in Confluent framing, with the id that the registry has for their schema under
  `<topic>-value`. Everything before that (outbox, dead letters) stays in single-object encoding, so that a
  registry can be had, or given up, without touching what is stored.
* The ids of all our own schemas are had at the start. Without them a role doesn't begin; afterwards the
  registry may be away, and only what was never seen of it waits.
* A record whose schema can't be asked for now is not delivered: it waits in its partition, since nobody may
  say that it can't be read. Records of other partitions go on. Only the registry's own word that there is no
  such schema (404 with its code 40403; a proxy's 404 is none) makes it an unknown one. One word may come
  from a node that lags behind; so it is asked twice, unless it is asked so often that somebody is making ids
  up.
* A schema from here is a writer's, and no more: the codec resolves it against ours.

Source: Confluent, "Schema Registry API Reference", /subjects and /schemas. Tried on Apicurio Registry 3.3.3;
see deploy/kafka/README.md.
"""

import base64
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx

from orchestrator.bus.port import BusUnavailable, Record
from orchestrator.secret import SecretRef, SecretUnavailable
from orchestrator.settings import SchemaRegistry
from schemas.codec import CodecError, record_of, reframed, schema_id_of, schema_of
from schemas.messages import Message

_logger = logging.getLogger(__name__)

_KEY: Final = "kafka.schema_registry"
_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_NO_SUBJECT, _NO_SCHEMA = 40401, 40403
_LARGEST_ANSWER: Final = 1 << 20
_MOST_KNOWN: Final = 1000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_SECOND_LOOK_AFTER: Final = 1.0
_SECOND_LOOKS_EVERY: Final = 10.0
_MISSING_FOR: Final = 60.0

V = TypeVar("V")


class RegistryUnavailable(BusUnavailable):
    """The registry can't be asked, or won't have what we bring. The text names the setting and the mend."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{_KEY}.{key}: {text}")


class Registry:
    """One registry. Its methods may be called from any thread; those that ask it take their time."""

    def __init__(self, settings: SchemaRegistry, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None
        self._travels: dict[str, type[Message]] = {}
        self._ids: dict[tuple[str, type[Message]], int] = {}
        # None stands for what is no schema that we could read.
        self._texts: dict[int, str | None] = {}
        # How often the registry said that it has no such schema, and when it last did.
        self._missing: dict[int, tuple[int, float]] = {}
        self._second_look_at = 0.0
        self._quiet_until = 0.0
        self._pause = _FIRST_PAUSE

    def prepare(self, records: Mapping[str, type[Message]]) -> None:
        """Has the ids of the schemas of these topics, which are registered unless the settings forbid it.

        Raises:
            RegistryUnavailable: with what is to be mended.
        """
        self._travels |= records
        for topic, record in records.items():
            self._id_of(topic, record)

    def close(self) -> None:
        with self._lock:
            client, self._http = self._http, None
        if client is not None:
            client.close()

    # --- writing ---

    def framed(self, record: Record) -> Record:
        """A record of ours as it is to be published; any other is left as it is.

        Raises:
            RegistryUnavailable: the topic's schema was never seen, and can't be now.
        """
        kind = record_of(record.value)
        # What doesn't belong on the topic has no schema there, and must not stop what is sent with it.
        if kind is None or self._travels.get(record.topic, kind) is not kind:
            return record
        schema_id = self._id_of(record.topic, kind)
        try:
            return replace(record, value=reframed(record.value, schema_id))
        except CodecError:
            # A dead letter, say, that is sent again and is as broken as it was.
            return record

    def _id_of(self, topic: str, record: type[Message]) -> int:
        known = self._ids.get((topic, record))
        if known is not None:
            return known
        subject, text = f"{topic}-value", schema_of(record)
        path = f"/subjects/{quote(subject, safe='')}"
        if self._settings.auto_register:
            path += "/versions"
        status, answer = self._ask("POST", path, {"schema": text})
        schema_id = answer.get("id")
        if status == 200 and type(schema_id) is int and 0 <= schema_id < 2**31:
            with self._lock:
                self._ids[topic, record] = schema_id
            self._keep(self._texts, schema_id, text)
            return schema_id
        file = f"schemas/{record.__name__.lower()}.avsc"
        match status, answer.get("error_code"):
            case (409, _):
                raise RegistryUnavailable(
                    "auto_register",
                    f"{subject} has schemas that {file} is not compatible with; mend the subject",
                )
            case (404, int(code)) if code in (_NO_SUBJECT, _NO_SCHEMA):
                raise RegistryUnavailable(
                    "auto_register", f"{subject} does not have {file}; register it there, or set this to true"
                )
            case (422, _):
                raise RegistryUnavailable("url", f"the registry takes no Avro schemas for {subject} (422)")
        raise RegistryUnavailable("url", f"no schema registry answers there ({status}); correct the address")

    # --- reading ---

    def knows(self, value: bytes) -> bool:
        """Whether there is nothing to ask the registry before the record can be read, or found unreadable."""
        schema_id = schema_id_of(value)
        return schema_id is None or schema_id in self._texts or self._is_missing(schema_id)

    def look_up(self, value: bytes) -> None:
        """Asks for the schema of a record that can't be read yet, unless the registry was asked just now."""
        schema_id = schema_id_of(value)
        now = self._clock()
        if schema_id is None or self.knows(value) or now < self._quiet_until:
            return
        times, asked_at = self._missing.get(schema_id, (0, 0.0))
        if times == 1 and now < asked_at + _SECOND_LOOK_AFTER:
            return
        try:
            self._fetch(schema_id)
        except RegistryUnavailable:
            # Told when it was found out; the record waits.
            return

    def schema(self, schema_id: int) -> str:
        """The text of a schema: the codec's resolver.

        Raises:
            LookupError: the registry has none of this id, or none that is Avro.
            RegistryUnavailable: it can't be asked.
        """
        if schema_id not in self._texts and not self._is_missing(schema_id):
            self._fetch(schema_id)
        text = self._texts.get(schema_id)
        if text is None:
            raise LookupError(schema_id)
        return text

    def _is_missing(self, schema_id: int) -> bool:
        times, asked_at = self._missing.get(schema_id, (0, 0.0))
        return times > 1 and self._clock() < asked_at + _MISSING_FOR

    def _fetch(self, schema_id: int) -> None:
        status, answer = self._ask("GET", f"/schemas/ids/{schema_id}", None)
        if status == 404 and answer.get("error_code") == _NO_SCHEMA:
            times, _ = self._missing.get(schema_id, (0, 0.0))
            now = self._clock()
            if times == 0 and now < self._second_look_at:
                times = 1
            elif times == 0:
                self._second_look_at = now + _SECOND_LOOKS_EVERY
            self._keep(self._missing, schema_id, (times + 1, now))
            return
        text = answer.get("schema")
        if status != 200 or not isinstance(text, str):
            raise self._away("url", f"the registry did not give schema {schema_id} ({status}); see its log")
        is_avro = answer.get("schemaType", "AVRO") == "AVRO"
        self._keep(self._texts, schema_id, text if is_avro else None)

    def _keep(self, kept: dict[int, V], schema_id: int, value: V) -> None:
        with self._lock:
            kept[schema_id] = value
            if len(kept) > _MOST_KNOWN:
                ours = set(self._ids.values())
                del kept[next(one for one in kept if one not in ours)]

    # --- asking ---

    def _ask(self, method: str, path: str, body: dict[str, str] | None) -> tuple[int, dict[str, Any]]:
        """The status and what was said. Raises RegistryUnavailable where that says nothing about schemas."""
        if self._clock() < self._quiet_until:
            raise RegistryUnavailable("url", "the registry was away a moment ago; it is asked again soon")
        try:
            status, content = self._send(method, path, body)
        except SecretUnavailable as error:
            raise self._away(self._login_key(), str(error)) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise self._away(
                    "ca_file", "the registry's certificate is not trusted; name who signed it"
                ) from None
            kind = type(error).__name__
            raise self._away(
                "url", f"the registry does not answer ({kind}); start it, or correct the address"
            ) from None
        if status in (401, 403):
            raise self._away(self._login_key(), f"the registry refuses us ({status}); correct the login")
        if status >= 500 or status in (408, 429):
            raise self._away("url", f"the registry has failed ({status}); see its log")
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise self._away("url", f"no schema registry answers there ({status}); correct the address")
        self._quiet_until, self._pause = 0.0, _FIRST_PAUSE
        return status, answer

    def _send(self, method: str, path: str, body: dict[str, str] | None) -> tuple[int, bytes]:
        client = self._client()
        headers = {"Accept": f"{_MEDIA_TYPE}, application/json", "Accept-Encoding": "identity"}
        content = None
        if body is not None:
            headers["Content-Type"] = _MEDIA_TYPE
            content = json.dumps(body).encode()
        headers |= self._login()
        until = self._clock() + self._settings.timeout.total_seconds()
        url = self._settings.url + path
        with client.stream(method, url, headers=headers, content=content) as response:
            parts = bytearray()
            for part in response.iter_bytes():
                parts += part
                if len(parts) > _LARGEST_ANSWER or self._clock() > until:
                    raise httpx.ReadError("too much")
            return response.status_code, bytes(parts)

    def _client(self) -> httpx.Client:
        with self._lock:
            if self._http is None:
                try:
                    trusted = ssl.create_default_context(cafile=self._settings.ca_file)
                except OSError as error:
                    raise self._away("ca_file", f"can't be used ({error.strerror}); see to it") from None
                # Redirects are not followed: they could lead the login to another host. No connection is
                # kept: calls are hours apart, and one closed meanwhile would read as a registry away.
                self._http = httpx.Client(
                    timeout=self._settings.timeout.total_seconds(),
                    verify=trusted,
                    follow_redirects=False,
                    limits=httpx.Limits(max_keepalive_connections=0),
                )
            return self._http

    def _login(self) -> dict[str, str]:
        settings = self._settings
        if settings.token is not None:
            return {"Authorization": f"Bearer {settings.token.read()}"}
        if settings.username is not None and isinstance(settings.password, SecretRef):
            pair = f"{settings.username}:{settings.password.read()}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return {}

    def _login_key(self) -> str:
        if self._settings.token is not None:
            return "token"
        return "password" if self._settings.password is not None else "username"

    def _away(self, key: str, text: str) -> RegistryUnavailable:
        """Leaves the registry alone for a while, longer with each time."""
        _logger.warning("schema_registry_away", extra={"code": key, "seconds": self._pause})
        self._quiet_until = self._clock() + self._pause
        self._pause = min(_LONGEST_PAUSE, 2 * self._pause)
        return RegistryUnavailable(key, text)
