"""Controllers are known by their client certificates, over real connections, and nobody else is."""

import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette

from handlers.registry import settings_models
from handlers.sandbox.asking import AskingController
from handlers.sandbox.certificates import Authority, new_key, private_pem
from orchestrator.intake import tls
from orchestrator.intake.errors import CannotListen
from orchestrator.intake.server import Server
from orchestrator.intake.tls import Tls, client_names
from orchestrator.settings import ConfigError, MutualTls, load
from tests.integration.installation import SETTINGS, radera
from tests.integration.opendsr_world import (
    BASE,
    DOMAIN,
    OTHER_TOKEN,
    PERSON,
    TOKEN,
    World,
    configuration,
    world_in,
)
from tests.integration.ports import free_port
from tests.integration.processes import RADERA, environment, eventually

NAMES = {"byggab": "radera.byggab.example", "other": "radera.other.example"}
EARLY = datetime(2020, 1, 1, tzinfo=UTC)


def request() -> dict[str, Any]:
    """A request for the person, as a controller posts it."""
    return {
        "regulation": "gdpr",
        "subject_request_id": str(uuid.uuid4()),
        "subject_request_type": "erasure",
        "submitted_time": "2026-08-31T00:00:00Z",
        "subject_identities": [
            {"identity_type": "email", "identity_value": PERSON, "identity_format": "raw"}
        ],
    }


def wall_clock() -> int:
    """The time that the two ends of a real connection go by."""
    return time.time_ns() // 1000


class Files:
    """What the server has, and what its clients have, in a directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.web = Authority(wall_clock(), "Authority of web servers")
        self.controllers = Authority(wall_clock(), "Authority of controllers")
        self.settings = MutualTls(
            port=8443,
            certificate=folder / "serve.pem",
            key=folder / "serve-key.pem",
            authorities=folder / "controllers.pem",
        )
        self.write(self.settings.certificate, self.web.issue(DOMAIN, new_key("serve"), begins=EARLY))
        self.write(self.settings.key, private_pem(new_key("serve")))
        self.write(self.settings.authorities, self.controllers.root())

    def write(self, file: Path, text: str) -> None:
        """As a secret is renewed: another file takes the place of the old one."""
        fresh = file.with_suffix(".fresh")
        fresh.write_text(text)
        fresh.replace(file)

    def shown(self, name: str, *, by: Authority | None = None, **how: Any) -> ssl.SSLContext:
        """A client that shows a certificate for this name."""
        certificate, key = self.folder / f"{name}.pem", new_key(name)
        stated = {"client": True, "begins": EARLY, **how}
        certificate.write_text((by or self.controllers).issue(name, key, **stated) + private_pem(key))
        context = self.nobody()
        context.load_cert_chain(certificate)
        return context

    def nobody(self) -> ssl.SSLContext:
        """A client without a certificate, as a browser is."""
        return ssl.create_default_context(cadata=self.web.root())


class Served:
    """An installation's endpoints for controllers, on a port of this machine."""

    def __init__(self, world: World, files: Files) -> None:
        self.world = world
        self.files = files
        app = Starlette(routes=world.parts.endpoints.routes())
        self.server = Server(app, host="127.0.0.1", port=0, tls=Tls(files.settings))

    def ask(self, context: ssl.SSLContext, path: str, *, method: str = "GET", **more: Any) -> httpx.Response:
        """One request over a connection of its own."""
        with httpx.Client(verify=context, trust_env=False, timeout=10.0) as client:
            return client.request(
                method,
                f"https://127.0.0.1:{self.server.port}{path}",
                extensions={"sni_hostname": DOMAIN},
                **more,
            )

    def post(self, context: ssl.SSLContext, token: str | None = None, **headers: str) -> httpx.Response:
        """A request for the person."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.ask(context, "/v2/requests", method="POST", json=request(), headers=headers)

    @asynccontextmanager
    async def controller(self, context: ssl.SSLContext) -> AsyncIterator[AskingController]:
        """The strict one, over the same port."""
        transport = _Here(self.server.port, context)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            root, clock = self.world.authority.root(), self.world.clock
            yield AskingController(client, token=None, root=root, clock=clock)


class _Here(httpx.AsyncHTTPTransport):
    """Reaches the processor's host at a port of this machine."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return await super().handle_async_request(request)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    files = Files(folder)
    with (
        pytest.MonkeyPatch.context() as patch,
        world_in(folder, patch, names=NAMES, mutual_tls=files.settings) as world,
    ):
        made = Served(world, files)
        with made.server:
            yield made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all who only ask."""
    with serving(tmp_path_factory.mktemp("served")) as made:
        yield made


@pytest.fixture
def own_served(tmp_path: Path) -> Iterator[Served]:
    """One for a test that changes it."""
    with serving(tmp_path) as made:
        yield made


def _asked_for_no_page(answer: httpx.Response) -> bool:
    error = answer.json()["error"]
    return (answer.status_code, error["errors"][0]["domain"]) == (401, "authorization")


# --- who is let in ---


def test_a_controllers_certificate_opens_its_own_tenant(own_served: Served) -> None:
    """Without any token: the request is taken for the tenant that has the name, and its status is told."""
    served, id_ = own_served, str(uuid.uuid4())

    async def asked() -> tuple[dict[str, Any], dict[str, Any]]:
        async with served.controller(served.files.shown(NAMES["byggab"])) as controller:
            return await controller.ask(id_, ("email", PERSON, "raw")), await controller.status(id_)

    taken, status = anyio.run(asked)
    served.world.settle()
    assert ("byggab", "pending") == (taken["controller_id"], status["request_status"])
    assert ["tenant_byggab"] == [step.system for step in served.world.saga().steps]


def test_a_controllers_certificate_opens_no_other_tenant(served: Served) -> None:
    """Another's request is not there for it: neither its state nor its end can be had."""
    own, other = (served.files.shown(NAMES[name]) for name in ("byggab", "other"))
    taken = served.post(own)
    path = f"/v2/requests/{taken.json()['subject_request_id']}"
    assert (201, 200) == (taken.status_code, served.ask(own, path).status_code)
    assert 404 == served.ask(other, path).status_code
    assert 404 == served.ask(other, path, method="DELETE").status_code


@pytest.mark.parametrize(
    ("token", "status"),
    [(None, 201), (TOKEN, 201), (OTHER_TOKEN, 401), ("no such token", 401)],
)
def test_a_token_and_a_certificate_have_to_agree(served: Served, token: str | None, status: int) -> None:
    """A token of another, or of nobody, is not made good by the certificate beside it."""
    assert status == served.post(served.files.shown(NAMES["byggab"]), token).status_code


def test_who_shows_no_certificate_comes_in_by_token_or_not_at_all(served: Served) -> None:
    """A certificate is no duty: what is for everybody stays so, and a bearer token goes on being enough."""
    nobody = served.files.nobody()
    assert 200 == served.ask(nobody, "/v2/discovery").status_code
    assert 200 == served.ask(nobody, "/opendsr/certificate.pem").status_code
    assert 201 == served.post(nobody, OTHER_TOKEN).status_code
    assert _asked_for_no_page(served.post(nobody))


@pytest.mark.parametrize(
    "name", ["stranger.example", "byggab.example", "*.byggab.example", "www.radera.byggab.example"]
)
def test_a_good_certificate_for_another_name_is_nobodys(served: Served, name: str) -> None:
    """The name in the settings is the name, letter by letter: no wildcard's, no parent's, no child's."""
    assert _asked_for_no_page(served.post(served.files.shown(name)))


def test_what_a_header_says_of_a_certificate_is_not_believed(served: Served) -> None:
    """Anybody can write a header, and certificates are no secrets."""
    served.files.shown(NAMES["byggab"])
    certificate = (served.files.folder / f"{NAMES['byggab']}.pem").read_text().partition("-----BEGIN PRI")[0]
    quoted = certificate.replace("\n", "%0A")
    told = {
        "ssl-client-cert": quoted,
        "ssl-client-verify": "SUCCESS",
        "x-forwarded-client-cert": f'Cert="{quoted}";DNS={NAMES["byggab"]}',
        "x-client-cert": quoted,
    }
    assert _asked_for_no_page(served.post(served.files.nobody(), **told))


@pytest.mark.parametrize("shows", [False, True])
def test_strangers_do_not_hold_the_others_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shows: bool
) -> None:
    """The time is the database's. Who shows no certificate has no question asked there before it is known
    who asks; for one that is shown, others go on being served meanwhile.
    """
    files = Files(tmp_path)
    by_the_loop: list[bool] = []
    certificate = files.controllers.issue("stranger.example", new_key("stranger"), client=True)
    with world_in(tmp_path, monkeypatch, names=NAMES, mutual_tls=files.settings) as world:
        store = world.installation.ground.store
        now = store.now

        def asked_the_time() -> int:
            by_the_loop.append(threading.current_thread() is threading.main_thread())
            return now()

        monkeypatch.setattr(store, "now", asked_the_time)
        app = Starlette(routes=world.assembled().endpoints.routes())

        async def told(scope: Any, receive: Any, send: Any) -> None:
            tls = {"client_cert_chain": [certificate] if shows else []}
            await app({**scope, "extensions": {"tls": tls}}, receive, send)

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(told), base_url=BASE) as client:
                return await client.post("/v2/requests", json=request())

        assert _asked_for_no_page(anyio.run(ask))
    assert [False] * shows == by_the_loop


# --- who does not even get a connection ---


def _another_authority(name: str) -> Authority:
    made = Authority(wall_clock(), name)
    made._key = new_key("another authority")  # one key for each name is what the stand-in has
    return made


_NO_GOOD: dict[str, Callable[[], dict[str, Any]]] = {
    "of another authority": lambda: {"by": Authority(wall_clock(), "Authority of nobody's")},
    "of another authority by the same name": lambda: {"by": _another_authority("Authority of controllers")},
    "expired": lambda: {"ends": datetime.now(UTC) - timedelta(days=1)},
    "not yet in force": lambda: {"begins": datetime.now(UTC) + timedelta(days=1)},
    "for servers": lambda: {"client": False},
}


@pytest.mark.parametrize("wrong", _NO_GOOD)
def test_a_certificate_that_does_not_hold_ends_the_connection(served: Served, wrong: str) -> None:
    """Even for what is for everybody, and though it bears the right name: someone tries something, or has
    forgotten to renew, and should learn of it.
    """
    context = served.files.shown(NAMES["byggab"], **_NO_GOOD[wrong]())
    with pytest.raises(httpx.TransportError):
        served.ask(context, "/v2/discovery")
    assert 201 == served.post(served.files.shown(NAMES["byggab"])).status_code


def test_a_certificate_that_does_not_say_what_it_is_for_is_for_clients_too(served: Served) -> None:
    """So has it the standard (RFC 5280, 4.2.1.12); only one that says it is for something else is refused."""
    assert 201 == served.post(served.files.shown(NAMES["byggab"], client=None)).status_code


def test_a_certificate_counts_no_longer_than_it_is_in_force(tmp_path: Path) -> None:
    """A connection may last longer than what was shown when it was made."""
    files = Files(tmp_path)
    ends = datetime(2027, 1, 1, tzinfo=UTC)
    certificate = files.controllers.issue(NAMES["byggab"], new_key("a"), client=True, ends=ends)
    scope = {"extensions": {"tls": {"client_cert_chain": [certificate]}}}
    end = int(ends.timestamp()) * 1_000_000
    assert frozenset({NAMES["byggab"]}) == client_names(scope, end)
    assert frozenset() == client_names(scope, end + 1_000_000)


_TLS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class _Resuming:
    """A client that shows a certificate, and offers the session of its latest connection."""

    def __init__(self, served: Served, version: ssl.TLSVersion) -> None:
        self.served = served
        self.context = served.files.shown(NAMES["byggab"])
        self.context.minimum_version = self.context.maximum_version = version
        self.session: ssl.SSLSession | None = None

    @contextmanager
    def connected(self) -> Iterator[tuple[ssl.SSLSocket, bytes]]:
        """A connection, and what it was answered; the session of it is offered next."""
        with (
            socket.create_connection(("127.0.0.1", self.served.server.port), timeout=10.0) as plain,
            self.context.wrap_socket(plain, server_hostname=DOMAIN, session=self.session) as connection,
        ):
            answered = b""
            with suppress(ConnectionError, ssl.SSLError):
                connection.sendall(b"GET /opendsr/none HTTP/1.1\r\nHost: radera.example\r\n\r\n")
                answered = connection.recv(65_536)
            self.session = connection.session
            yield connection, answered


@pytest.mark.parametrize("version", _TLS)
@pytest.mark.parametrize("closes", [False, True], ids=["the first stays open", "the first is closed"])
def test_no_session_is_resumed(served: Served, version: ssl.TLSVersion, closes: bool) -> None:
    """A session would go on with a certificate that was verified before, by authorities that may be gone.
    One that is torn down without a word can't be resumed by anybody, so that here it is kept, or closed in
    good order.
    """
    client = _Resuming(served, version)
    with client.connected() as (first, answered):
        assert answered.startswith(b"HTTP/1.1 404")
        if closes:
            with suppress(OSError):  # it may be closed from there already
                first.unwrap()
        with client.connected() as (second, answered):
            assert (False, b"HTTP/1.1 404") == (second.session_reused, answered[:12])


@pytest.mark.parametrize("version", _TLS)
def test_a_session_is_not_resumed_either_while_files_do_not_fit(
    own_served: Served, version: ssl.TLSVersion
) -> None:
    """The old files serve on then. Who would resume a session from that time gets no answer, and with the
    next attempt a new one.
    """
    client = _Resuming(own_served, version)
    own_served.files.write(own_served.files.settings.key, "in the middle of a renewal")
    with client.connected() as (_, answered):
        assert answered.startswith(b"HTTP/1.1 404")
        with client.connected() as (second, answered):
            assert (second.session_reused, answered[:12]) in [(True, b""), (False, b"HTTP/1.1 404")]
        with client.connected() as (third, answered):
            assert (False, b"HTTP/1.1 404") == (third.session_reused, answered[:12])


def test_nothing_is_said_in_clear(served: Served) -> None:
    """Whoever forgets the s sends a token where everybody can read it, and gets no answer."""
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{served.server.port}/v2/discovery", trust_env=False)


@pytest.mark.parametrize(("asks_first", "said"), [(False, b""), (False, b"GET /v2/disc"), (True, b"GET /")])
def test_a_connection_that_does_not_say_what_it_wants_is_ended(
    served: Served, monkeypatch: pytest.MonkeyPatch, asks_first: bool, said: bytes
) -> None:
    """Nothing at all, half of a head, or half of a second one: a few hundred of these would keep all
    controllers out. Whoever asks in time is answered.
    """
    monkeypatch.setattr(tls, "SLOWEST_HEAD", 0.3)
    with (
        socket.create_connection(("127.0.0.1", served.server.port), timeout=10.0) as plain,
        served.files.nobody().wrap_socket(plain, server_hostname=DOMAIN) as connection,
    ):
        if asks_first:
            connection.sendall(b"GET /opendsr/none HTTP/1.1\r\nHost: radera.example\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 404")
        connection.sendall(said)
        began = time.monotonic()
        with suppress(ConnectionError, ssl.SSLError):
            while connection.recv(65_536):
                pass
    assert time.monotonic() - began < 4.0, "sooner than uvicorn ends what is idle"
    assert 200 == served.ask(served.files.nobody(), "/v2/discovery").status_code


def test_the_port_answers_controllers_and_nobody_else(served: Served) -> None:
    """It is open to the world: what is for monitors, agencies and vendors is on the other one."""
    own = served.files.shown(NAMES["byggab"])
    for path in ("/healthz", "/readyz", "/metrics", "/answer/token", "/callbacks/hubspot"):
        assert 404 == served.ask(own, path).status_code, path


def test_the_application_is_told_of_the_connection_as_asgi_has_it(tmp_path: Path) -> None:
    """The keys that the TLS extension, version 0.2, demands, with the certificate in them; nothing of it in
    clear text.
    """
    files = Files(tmp_path)
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope.get("extensions", {}))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    context = files.shown(NAMES["byggab"])
    with Server(app, host="127.0.0.1", port=0, tls=Tls(files.settings)) as server:
        serving_then = server.is_serving
        url, to = f"https://127.0.0.1:{server.port}", {"sni_hostname": DOMAIN}
        with httpx.Client(verify=context, trust_env=False) as client:
            client.get(url, extensions=to)
    assert (True, False) == (serving_then, server.is_serving)
    with Server(app, host="127.0.0.1", port=0) as server:
        httpx.get(f"http://127.0.0.1:{server.port}", trust_env=False)
    told = seen[0]["tls"]
    assert {
        "server_cert": None,
        "client_cert_name": f"CN={NAMES['byggab']}",
        "tls_version": None,
        "cipher_suite": None,
    } == {key: value for key, value in told.items() if key != "client_cert_chain"}
    own = (tmp_path / f"{NAMES['byggab']}.pem").read_text()
    assert [True] == [own.startswith(pem) for pem in told["client_cert_chain"]]
    assert "tls" not in seen[1]


# --- files ---


def test_renewed_files_count_for_the_next_connection(own_served: Served) -> None:
    """The server's certificate, and who may issue the controllers': without a restart, and the authority that
    was taken away no longer counts.
    """
    served, files = own_served, own_served.files
    before, web = files.shown(NAMES["byggab"]), files.nobody()
    assert 201 == served.post(before).status_code
    files.web, files.controllers = Authority(wall_clock(), "Web, later"), Authority(wall_clock(), "Later")
    files.write(files.settings.authorities, files.controllers.root())
    with pytest.raises(httpx.TransportError):
        served.post(before)
    files.write(files.settings.certificate, files.web.issue(DOMAIN, new_key("serve, later"), begins=EARLY))
    assert 200 == served.ask(web, "/v2/discovery").status_code, (
        "its key is not there yet: the old pair serves"
    )
    files.write(files.settings.key, private_pem(new_key("serve, later")))
    with pytest.raises(httpx.TransportError):
        served.ask(web, "/v2/discovery")
    assert 201 == served.post(files.shown(NAMES["byggab"])).status_code


def _takes_away(files: Files) -> None:
    files.settings.authorities.unlink()


def _empties(files: Files) -> None:
    files.write(files.settings.authorities, "")


def _gives_another_key(files: Files) -> None:
    files.write(files.settings.key, private_pem(new_key("another")))


def _locks_the_key(files: Files) -> None:
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:secret", "-in", str(files.settings.key)]
    files.write(
        files.settings.key, subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_takes_away, "controllers.pem: No such file"),
        (_empties, "not PEM"),
        (_gives_another_key, "the key of another certificate"),
        (_locks_the_key, "a key with a password"),
    ],
)
def test_files_that_can_not_be_used_are_told_at_the_start(tmp_path: Path, spoil: Any, why: str) -> None:
    """In one line, and nobody is asked for a password that nobody is there to type; `radera config check`
    says the same before.
    """
    files = Files(tmp_path)
    spoil(files)
    with pytest.raises(CannotListen, match=rf"^opendsr.mutual_tls: .*{why}.*: mend the files$"):
        Tls(files.settings)
    text = SETTINGS
    for old, new in configuration(tmp_path, {}, NAMES, files.settings):
        text = text.replace(old, new)
    (tmp_path / "radera.toml").write_text(text)
    checked = radera("config", "check", "--config", str(tmp_path / "radera.toml"))
    assert checked.exit_code != 0
    assert why in checked.output


# --- settings ---


def _problems(tmp_path: Path, names: dict[str, str], mutual_tls: MutualTls | None) -> list[str]:
    text = SETTINGS
    for old, new in configuration(tmp_path, {}, names, mutual_tls):
        text = text.replace(old, new)
    (tmp_path / "radera.toml").write_text(text)
    try:
        load(tmp_path / "radera.toml", settings_models(), {})
    except ConfigError as error:
        return error.problems
    return []


def test_names_without_a_port_to_show_a_certificate_at_are_refused(tmp_path: Path) -> None:
    """Nobody would ever be asked for a certificate, and the controller refused for good."""
    files = Files(tmp_path)
    assert [] == _problems(tmp_path, NAMES, files.settings)
    [problem] = _problems(tmp_path, NAMES, None)
    assert "opendsr: mutual_tls is missing, but tenant_byggab has opendsr_certificate_names" in problem


def test_no_two_controllers_can_have_one_name(tmp_path: Path) -> None:
    """However it is written, one certificate would open two tenants."""
    names = {"byggab": "shared.example", "other": "Shared.Example"}
    [problem] = _problems(tmp_path, names, Files(tmp_path).settings)
    assert "tenant_byggab and tenant_other have a name in common" in problem


# --- as a process ---


@pytest.mark.parametrize("role", ["up", "serve"])
def test_a_process_answers_controllers_on_one_port_and_probes_on_the_other(tmp_path: Path, role: str) -> None:
    """`radera up` and `radera serve` alike; a probe needs no certificate and no TLS."""
    files, signing = Files(tmp_path), Authority(wall_clock())
    (tmp_path / "opendsr-key.pem").write_text(private_pem(new_key("radera")))
    (tmp_path / "opendsr.pem").write_text(signing.issue(DOMAIN, new_key("radera")))
    plain, own = free_port(), free_port()
    mutual_tls = files.settings.model_copy(update={"port": own})
    text = SETTINGS.replace("port = 8089", f"port = {plain}")
    for old, new in configuration(tmp_path, {}, NAMES, mutual_tls):
        text = text.replace(old, new)
    file = tmp_path / "radera.toml"
    file.write_text(text)
    log = tmp_path / "log"
    with log.open("wb") as written:
        command = [RADERA, role, "--config", str(file)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=written, env=environment())
    try:
        eventually("it is up", lambda: f"radera: {role}, " in log.read_text(), within=40.0)
        with httpx.Client(verify=files.shown(NAMES["byggab"]), trust_env=False) as client:
            to, url = {"sni_hostname": DOMAIN}, f"https://127.0.0.1:{own}"
            taken = client.post(f"{url}/v2/requests", json=request(), extensions=to)
            assert (201, "byggab") == (taken.status_code, taken.json()["controller_id"])
            assert 404 == client.get(f"{url}/healthz", extensions=to).status_code
        assert 200 == httpx.get(f"http://127.0.0.1:{plain}/healthz", trust_env=False).status_code
        ready = httpx.get(f"http://127.0.0.1:{plain}/readyz", trust_env=False).json()
        assert ready["mutual_tls"], "who watches the one port hears of the other"
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(30.0)
    finally:
        process.kill()
        process.wait()
    said = log.read_text()
    assert f"https://127.0.0.1:{own} (controllers)" in said
    assert PERSON not in said
