"""An installation that a controller asks over OpenDSR: its endpoints in this process, its clock, the worker
by script, and the controller as strict as it may be.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from handlers.sandbox.asking import AskingController
from handlers.sandbox.certificates import Authority, new_key, private_pem
from orchestrator.cli.opendsr import Parts, make_opendsr
from orchestrator.http import Clients
from orchestrator.intake.app import build_app
from orchestrator.intake.outbox import Outbox
from orchestrator.saga.model import Saga
from orchestrator.settings import MutualTls
from orchestrator.store import StoredSent
from tests.integration.installation import START, Installation, installed

DOMAIN = "radera.controller.example"
BASE = f"https://{DOMAIN}"
PERSON = "canary.person@people.example"
TOKEN = "byggab's own token"
OTHER_TOKEN = "token of another tenant"
CALLBACK = "https://byggab.example/opendsr/callbacks?secret=canary-callback"

_TENANT = """
[systems.tenant_{name}]
kind = "tenant"
tenant = "{name}"
api_url = "https://product.example/{name}"
api_token = {{ env = "PRODUCT_TOKEN" }}
controller_url = "https://{name}.example"
opendsr_tokens = {hashes}
opendsr_certificate_names = {names}
"""

_MUTUAL_TLS = """
[opendsr.mutual_tls]
port = {port}
certificate = "{certificate}"
key = "{key}"
authorities = "{authorities}"
"""


class World:
    """One installation and whoever asks it."""

    def __init__(self, installation: Installation, folder: Path, authority: Authority) -> None:
        self.installation = installation
        self.clock = installation.clock
        self.authority = authority
        self.folder = folder
        self.parts = self.assembled()
        self.callbacks: list[tuple[str, Mapping[str, str], bytes]] = []
        self.controllers: list[AskingController] = []

    def assembled(self) -> Parts:
        """The parts as a process has them that has just begun."""
        transport = httpx.MockTransport(self._called)
        clients = lambda: Clients(clock=self.clock, steady=self.clock, transport=transport)  # noqa: E731 - as the factory takes it
        parts = make_opendsr(self.installation.ground, self.installation.metrics, clients)
        assert parts is not None
        return parts

    def restart(self) -> None:
        """Ends every process and starts them again."""
        self.installation.restart()
        self.parts = self.assembled()

    async def _called(self, request: httpx.Request) -> httpx.Response:
        """The controllers' side of the network."""
        body = await request.aread()
        self.callbacks.append((str(request.url), request.headers, body))
        for controller in self.controllers:
            if controller.callback == str(request.url):
                return httpx.Response(await controller.hear(str(request.url), request.headers, body))
        return httpx.Response(404)

    # --- asking ---

    @property
    def app(self) -> Any:
        """The HTTP application."""
        ground = self.installation.ground
        return build_app(
            settings=ground.settings,
            bus=Outbox(ground.store),
            links=ground.links,
            digests=ground.digests,
            sent=StoredSent(ground.store, "links"),
            seal=lambda data: data,
            clock=self.clock,
            metrics=self.installation.metrics,
            ready=dict,
            more=self.parts.endpoints.routes(),
        )

    def controller(
        self, token: str = TOKEN, *, version: str = "2", callback: str | None = CALLBACK
    ) -> AskingController:
        made = AskingController(
            self._client(),
            token=token,
            root=self.authority.root(),
            clock=self.clock,
            version=version,
            callback=callback,
        )
        self.controllers.append(made)
        return made

    def _client(self) -> httpx.AsyncClient:
        async def answered(request: httpx.Request) -> httpx.Response:
            # The application of the moment: a restart puts another in its place.
            return await httpx.ASGITransport(self.app).handle_async_request(request)

        return httpx.AsyncClient(transport=_Through(answered), base_url=BASE)

    def ask(self, controller: AskingController, **changed: Any) -> str:
        """A request for the person; its id as the controller knows it."""
        id_ = str(uuid.uuid4())
        anyio.run(lambda: controller.ask(id_, ("email", PERSON, "raw"), **changed))
        return id_

    def saga(self) -> Saga:
        """The one request that there is."""
        [found] = self.installation.sagas()
        return found

    # --- time ---

    def settle(self) -> None:
        """The roles, and what calls back, until nothing moves."""
        self.installation.settle()
        self.tell()

    def tell(self, seconds: float = 5.0) -> None:
        """Time passes by little, and all callbacks that are due are tried."""
        self.clock.now += int(seconds * 1_000_000)
        for _ in range(10):
            if not self.parts.callbacks.step():
                return


class _Through(httpx.AsyncBaseTransport):
    def __init__(self, answered: Any) -> None:
        self._answered = answered

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer: httpx.Response = await self._answered(request)
        return answer


def configuration(
    folder: Path,
    hashes: Mapping[str, str],
    names: Mapping[str, str] | None = None,
    mutual_tls: MutualTls | None = None,
) -> tuple[tuple[str, str], ...]:
    """The changes of the settings: an address that others can reach, a certificate, and two tenants, known by
    the hash of a token, by the name in a certificate, or by both.
    """
    names = names or {}
    tenants = "".join(
        _TENANT.format(
            name=name,
            hashes=json.dumps([one[name] for one in (hashes,) if name in one]),
            names=json.dumps([one[name] for one in (names,) if name in one]),
        )
        for name in dict.fromkeys((*hashes, *names))
    )
    opendsr = f"""
[opendsr]
key = {{ file = "{folder}/opendsr-key.pem" }}
certificate = {{ file = "{folder}/opendsr.pem" }}
{"" if mutual_tls is None else _MUTUAL_TLS.format(**mutual_tls.model_dump())}
"""
    return (
        ('public_url = "http://127.0.0.1:8089"', f'public_url = "{BASE}"'),
        ("[dpo]\n", f"{opendsr}\n[dpo]\n"),
        ("[systems.survey]\n", f"{tenants}\n[systems.survey]\n"),
    )


@contextmanager
def world_in(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: Mapping[str, str] | None = None,
    mutual_tls: MutualTls | None = None,
) -> Iterator[World]:
    """An installation with two tenants, byggab and other, that may ask."""
    authority, key = Authority(START), new_key("radera")
    (folder / "opendsr-key.pem").write_text(private_pem(key))
    (folder / "opendsr.pem").write_text(authority.issue(DOMAIN, key))
    hashes = {
        name: hashlib.sha256(token.encode()).hexdigest()
        for name, token in (("byggab", TOKEN), ("other", OTHER_TOKEN))
    }
    changes = configuration(folder, hashes, names, mutual_tls)
    with installed(folder, monkeypatch, *changes) as installation:
        installation.systems.kinds = ("hubspot", "recruitment", "tenant")
        yield World(installation, folder, authority)
