"""The settings, section by section, with what each means.

* Every value is read once, at the start, and never changes: the models are frozen.
* A key that nobody knows is refused: a misspelt retention period, silently ignored, is a breach a year later.
* A secret is never in the file. It is named: `{ env = "X" }` or `{ file = "/path" }`.
* A duration is written in ISO 8601 ("P14D", "PT30S"). A bare number is refused: nobody can tell its unit.
* The text under each field is its description; the reference in `deploy/README.md` is made from it.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationInfo,
    model_validator,
)

from orchestrator.secret import SecretRef
from orchestrator.settings.countries import load_one_by_one
from orchestrator.settings.kafka import Kafka
from orchestrator.settings.values import (
    Address,
    Domain,
    Duration,
    Line,
    Port,
    Section,
    Site,
    Zone,
    beside_the_file,
    is_loopback,
)
from schemas.messages import Language, Token


class Installation(Section):
    """Who runs this, and where."""

    name: Line
    """The controller's name, as the notices and the agencies' page give it."""
    domain: Domain
    """The domain after the @ of the Message-IDs."""
    public_url: Site
    """The address under which agencies, vendors and tenants reach this installation."""
    time_zone: Zone = "Europe/Stockholm"
    """Statutory days begin and end in this zone (IANA name)."""
    country: str = "SE"
    """Whose public holidays move a due date (`public-holidays.md`: by law only), and whose authority a notice
    names (ISO 3166 code).
    """
    subdivision: str | None = None
    """The part of the country, where holidays differ within it."""
    language: Language = "en"
    """The language for a request that doesn't say its own."""

    @model_validator(mode="after")
    def _places(self) -> Self:
        if (self.country, self.subdivision) == (type(self).model_fields["country"].default, None):
            return self  # is known: the calendars are loaded by who reckons dates, which few commands do
        import holidays
        from holidays.registry import EntityLoader

        if self.country not in EntityLoader.get_country_codes():
            raise ValueError('country: its public holidays are not known; use an ISO 3166 code, as in "SE"')
        if self.subdivision is not None:
            # Of this country alone: to list them all, every country of the world is loaded.
            load_one_by_one()
            parts = getattr(holidays, self.country).subdivisions
            if self.subdivision not in parts:
                raise ValueError(
                    f"subdivision: not known in this country; it has {', '.join(parts) or 'none'}"
                )
        return self


def _database_url(value: str, info: ValidationInfo) -> str:
    sqlite = "sqlite:///"
    if value.startswith(sqlite):
        path = value.removeprefix(sqlite)
        if path in ("", ":memory:"):
            raise ValueError("a database in memory forgets every request on a restart; name a file")
        return sqlite + str(beside_the_file(Path(path), info))
    parts = urlsplit(value)
    if not parts.scheme.startswith("postgresql") or not parts.hostname:
        raise ValueError('write "sqlite:///radera.db" or "postgresql+psycopg://user@host/name"')
    if parts.password is not None:
        raise ValueError("holds a password; take it out and name where it is in database.password")
    return value


class Database(Section):
    """Where the truth lives."""

    url: Annotated[str, AfterValidator(_database_url)] = "sqlite:///radera.db"
    """SQLAlchemy URL; the file of an SQLite one is looked for beside the settings file."""
    password: SecretRef | None = None
    """The password of our account on a server, read for each new connection. Without it, PGPASSWORD or
    PGPASSFILE."""

    @model_validator(mode="after")
    def _of_a_server(self) -> Self:
        if self.password is not None and self.url.startswith("sqlite"):
            raise ValueError("password: SQLite has none; take it away, or name a server in url")
        return self


class Keys(Section):
    """The master keys that seal every request's key."""

    file: Annotated[Path, AfterValidator(beside_the_file)] = Path("radera.keys")
    """The keyring (mode 0600), looked for beside the settings file; never in one backup with the database."""
    master: SecretRef | None = None
    """Instead of the keyring, where another system keeps and rotates the master keys: "1:base64,2:base64",
    with rising numbers, the current one last. A file must not be readable by everybody."""
    digest: SecretRef | None = None
    """With master: the digest key, in base64. Instead of both, RADERA_MASTER_KEYS and RADERA_DIGEST_KEY."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.master is None) != (self.digest is None):
            raise ValueError("master and digest come together; give both or neither")
        return self


class Http(Section):
    """The HTTP server: answers from agencies, callbacks, health, metrics."""

    host: Line = "127.0.0.1"
    """The address to listen on. Put a TLS-terminating proxy in front of anything but loopback."""
    port: Port = 8080
    """The port to listen on."""


class Intake(Section):
    """Requests from producers outside, as they come over the bus."""

    clear_identifiers: bool = False
    """Whether a request may name the person in clear. What was published in clear stays readable on the
    topic of requests and in its backups; a producer that seals needs no secret for it."""


class MutualTls(Section):
    """A port of its own, where serve speaks TLS itself and controllers can show a client certificate. It
    answers OpenDSR and nothing else, so that no agency's browser is ever asked for a certificate.
    """

    host: Line = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8443
    """The port to listen on."""
    certificate: Annotated[Path, AfterValidator(beside_the_file)]
    """The certificate and chain, PEM, for the host of `installation.public_url`. A renewed file counts for
    the next connection."""
    key: Annotated[Path, AfterValidator(beside_the_file)]
    """Its key, PEM, without a password."""
    authorities: Annotated[Path, AfterValidator(beside_the_file)]
    """The authorities, PEM, that issue the controllers' client certificates. Name only those of which you
    know that they give a name to nobody but its owner."""


class OpenDsr(Section):
    """Requests from controllers over OpenDSR, taken by `radera serve` for tenants with `opendsr_tokens` or
    `opendsr_certificate_names`.
    """

    key: SecretRef
    """The RSA key, PEM, with which answers and callbacks are signed. Of the roles only serve needs it."""
    certificate: SecretRef
    """Its certificate and chain, PEM, issued by an authority for the host of `installation.public_url`."""
    retry_first: Duration = timedelta(minutes=1)
    """The wait after a callback's first failure; doubled with each further one."""
    retry_cap: Duration = timedelta(hours=6)
    """The longest wait between two tries of a callback that a controller has not accepted."""
    mutual_tls: MutualTls | None = None
    """Where controllers come in by client certificate; without it a bearer token is the only way."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.retry_cap < self.retry_first:
            raise ValueError("retry_cap: shorter than retry_first; make it at least as long")
        return self


class Dpo(Section):
    """The data protection officer, who decides."""

    address: Address
    """The mailbox that completions and escalations go to."""
    name: Line | None = None
    """The officer's name for notices; without it they say "the data protection officer"."""
    language: Literal["en", "sv"] = "en"
    """The language of the mails to the DPO."""


class Smtp(Section):
    """The mail server that takes our mail."""

    host: Line
    """The server's name, as its certificate has it."""
    port: Port = 587
    """587 for STARTTLS, 465 for TLS from the first byte."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection is protected. "none" is only for a server on this machine."""
    ca_file: Annotated[Path, AfterValidator(beside_the_file)] | None = None
    """The certificates to trust instead of the system's, for a mail server with a private authority."""
    username: Line | None = None
    """The account to log in with; none for a server that knows us by address."""
    password: SecretRef | None = None
    """The account's password, by reference."""
    sender: Address
    """The address our mail comes from."""
    timeout: Duration = timedelta(seconds=30)
    """The longest wait for any answer of the server. A mail whose mailbox was killed over it goes again after
    thirteen times as long.
    """
    retry_first: Duration = timedelta(minutes=1)
    """The wait after a mail's first failure; doubled with each further one."""
    retry_cap: Duration = timedelta(hours=1)
    """The longest wait between two tries of a mail that the server put off."""
    retry_refused: Duration = timedelta(hours=6)
    """The wait before a mail to the DPO that was refused for good is tried again all the same."""

    @model_validator(mode="after")
    def _protected(self) -> Self:
        if self.security == "none" and not is_loopback(self.host):
            raise ValueError('security: "none" is only for a server on this machine; use "starttls" or "tls"')
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password come together; give both or neither")
        return self


class Retry(Section):
    """How often a failing call to a vendor is tried again before the DPO is asked."""

    first: Duration = timedelta(seconds=10)
    """The upper bound of the wait after the first failure; doubled with each further one (full jitter)."""
    cap: Duration = timedelta(hours=6)
    """The longest back-off between two attempts. It comes after a vendor's own Retry-After."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 8
    """Attempts at one verb of one system before it escalates."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.cap < self.first:
            raise ValueError("cap: shorter than first; make it at least as long")
        return self


class Waits(Section):
    """How long to wait for whom, and when to remind."""

    command_lifetime: Duration = timedelta(hours=12)
    """A command starts no erasing call later than this after it was issued."""
    call_limit: Duration = timedelta(minutes=2)
    """The longest that one call to a vendor may take; closing waits this long past the last `not_after`."""
    silence_alarm: Duration = timedelta(hours=24)
    """A command without an answer for this long raises an alarm. Silence is not an attempt."""
    circuit_alarm: Duration = timedelta(hours=24)
    """A system that nobody could ask for this long, because it does not answer and is left alone, or because
    no worker knows it: the DPO is asked.
    """
    party_reminder: Duration = timedelta(days=7)
    """An agency or controller that has not answered: remind it this often."""
    max_reminders: Annotated[int, Field(ge=0, le=100)] = 2
    """Reminders to an agency or controller before the DPO is asked."""
    max_reopened: Annotated[int, Field(ge=0, le=100)] = 3
    """How often a proof may find the records still there, and erase again, before the DPO is asked."""
    subject_answer: Duration = timedelta(days=14)
    """How long a subject has to give an identifier that is missing."""
    decision_reminder: Duration = timedelta(days=3)
    """An open escalation: remind the DPO this often."""
    deadline_warning: Duration = timedelta(days=7)
    """The DPO is warned this long before a request's due date."""
    notice_alarm: Duration = timedelta(days=1)
    """A notice that has not been sent for this long raises an alarm."""
    review: Duration = timedelta(days=7)
    """A request in progress is looked over at least this often."""


class Notices(Section):
    """What the subject is told."""

    subject: Literal["mail", "none"] = "mail"
    """Notices go to the subject by mail, or ("none") the DPO informs the subject in another way."""
    authority: Line | None = None
    """The supervisory authority to complain to; by default the one of the installation's country."""
    authority_url: Site | None = None
    """The authority's site."""


class Retention(Section):
    """How long our own records are kept."""

    requests: Duration = timedelta(days=3 * 365)
    """A finished request's state and timeline (no personal data), kept to show that it was met."""
    subject_digest: Duration = timedelta(days=90)
    """The keyed digest that finds a duplicate request; it is personal data too."""
    events: Duration = timedelta(days=30)
    """Ids of events seen. Must be at least as long as `messages`, or a replay would count twice."""
    messages: Duration = timedelta(days=7)
    """Messages on the embedded bus after all have read them."""
    dead_letters: Duration = timedelta(days=90)
    """Dead letters on the embedded bus; somebody must find the time to look at them."""
    plausible_after: Duration = timedelta(hours=1)
    """Nothing is thrown away before the clock has run evenly for this long since a start."""
    plausible_after_jump: Duration = timedelta(days=7)
    """The same after a jump, or a time when nobody watched the clock: for as long as that was, up to this."""

    @model_validator(mode="after")
    def _replayable(self) -> Self:
        if self.events < self.messages:
            raise ValueError("events: shorter than messages, so a replay would count twice; make it as long")
        return self


class Worker(Section):
    """The process that runs the handlers."""

    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8
    """Tasks in flight at once, over all systems."""


class Log(Section):
    """What the processes write to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious record that is written."""
    format: Literal["auto", "json", "text"] = "auto"
    """One JSON object a line, or text for people; "auto" writes text to a terminal and JSON elsewhere."""


class System(Section):
    """A place that holds data, or was considered and holds none; its handler's own settings stand beside."""

    kind: Token
    """The handler's kind, or "holds_nothing" for a place that holds nothing identifiable."""
    title: Line | None = None
    """How mails name it; by default the name of its table."""
    after: tuple[Token, ...] = ()
    """Systems whose erasure must be accepted before this one starts."""
    look_again: tuple[Duration, ...] = ()
    """When to look again, counted from the erasure, after the look that is always taken at once."""
    patience: Duration = timedelta(days=60)
    """How long after the erasure a proof may stay pending, a vendor's purge say, before the DPO is asked."""
    asks_subject: bool = False
    """Whether a missing identifier is asked for before the system ends as not identifiable."""
    reason: Line | None = None
    """Only for "holds_nothing", and needed there: why nothing in it can be traced to a person."""
    own: Annotated[Any, Field(exclude=True)] = None
    """Not a key: the handler's own settings, as its model has read them."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == HOLDS_NOTHING and self.reason is None:
            raise ValueError("reason: missing; say why nothing in it can be traced to a person")
        if self.kind != HOLDS_NOTHING and self.reason is not None:
            raise ValueError('reason: only for kind "holds_nothing"; remove it')
        if list(self.look_again) != sorted(set(self.look_again)):
            raise ValueError("look_again: not in order; write each time once, the soonest first")
        return self

    @property
    def holds_nothing(self) -> bool:
        """True when the system is on the record only, and no command is sent for it."""
        return self.kind == HOLDS_NOTHING


HOLDS_NOTHING = "holds_nothing"


class Settings(Section):
    """All of it."""

    installation: Installation
    database: Database = Database()
    keys: Keys = Keys()
    http: Http = Http()
    intake: Intake = Intake()
    opendsr: OpenDsr | None = None
    dpo: Dpo
    smtp: Smtp
    retry: Retry = Retry()
    waits: Waits = Waits()
    notices: Notices = Notices()
    retention: Retention = Retention()
    worker: Worker = Worker()
    log: Log = Log()
    kafka: Kafka | None = None
    systems: dict[Token, System] = Field(min_length=1)

    def kin_of(self, name: str) -> dict[str, Any]:
        """Return the handlers' own settings of the other systems of the same kind, by their names."""
        kind = self.systems[name].kind
        return {other: one.own for other, one in self.systems.items() if one.kind == kind and other != name}

    @model_validator(mode="after")
    def _replayable(self) -> Self:
        if self.kafka is not None and self.retention.events < self.kafka.retention:
            raise ValueError(
                "retention: events shorter than kafka.retention, so a replay counts twice; make it as long"
            )
        return self

    @model_validator(mode="after")
    def _signs(self) -> Self:
        for key in ("opendsr_tokens", "opendsr_certificate_names"):
            asking = [n for n, one in self.systems.items() if getattr(one.own, key, ())]
            if asking and self.opendsr is None:
                raise ValueError(
                    f"opendsr: missing, but {asking[0]} has {key}; add a key and certificate to sign"
                )
        return self

    @model_validator(mode="after")
    def _knows_certificates(self) -> Self:
        whose: dict[str, str] = {}
        for system, one in self.systems.items():
            for name in getattr(one.own, "opendsr_certificate_names", ()):
                if whose.setdefault(name, system) != system:
                    raise ValueError(
                        f"systems: {whose[name]} and {system} have a name in common in"
                        " opendsr_certificate_names, and could not be told apart; give each its own"
                    )
        if whose and self.opendsr is not None and self.opendsr.mutual_tls is None:
            raise ValueError(
                f"opendsr: mutual_tls is missing, but {next(iter(whose.values()))} has"
                " opendsr_certificate_names; add it, or nobody is ever asked for a certificate"
            )
        return self


def table_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a table, also of one that may be left out; None for a plain value."""
    for one in get_args(annotation) or (annotation,):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def micros(duration: timedelta) -> int:
    """A duration as code counts it: whole microseconds."""
    return duration // timedelta(microseconds=1)
