"""The sandbox over real HTTP and SMTP: what it kept survives a SIGKILL, and broken connections break."""

import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from handlers.sandbox import Sandbox
from handlers.sandbox.mail import catch, self_signed
from handlers.sandbox.server import now, serve
from handlers.sandbox.testing import Clock

ANNA = "anna@example.com"
TOKEN = {"Authorization": "Bearer sandbox-hubspot-token"}
ERASE = "/hubspot/crm/objects/2026-03/contacts/gdpr-delete"
LOOK = f"/hubspot/crm/objects/2026-03/contacts/{ANNA}?idProperty=email"
SEED = {"hubspot": {"contacts": [{"email": ANNA}, {"email": "bo@example.com"}]}}
BROKEN = (httpx.ReadError, httpx.RemoteProtocolError)  # and not a timeout, which would be another fault
MAIL = "To: privacy@agency.example\r\nSubject: x\r\n\r\nhello\r\n"


@contextmanager
def served(directory: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A sandbox in a process of its own, killed at the end."""
    command = [sys.executable, "-m", "handlers.sandbox", "--directory", str(directory), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().split()
            assert ["sandbox", "ready"] == line[:2]
            with httpx.Client(base_url=line[2], headers=TOKEN, trust_env=False) as client:
                yield process, client
        finally:
            process.kill()


def ledger(client: httpx.Client) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = client.get("/_sandbox/ledger").json()["ledger"]
    return lines


def erase(client: httpx.Client, email: str = ANNA) -> int:
    return client.post(ERASE, json={"objectId": email, "idProperty": "email"}).status_code


def test_what_was_answered_survives_a_sigkill(tmp_path: Path) -> None:
    """Effects, ledger, faults and what is still due are there again, once each, and counters go on."""
    with served(tmp_path) as (process, client):
        assert {"hubspot.contact": ["1", "2"]} == client.post("/_sandbox/seed", json=SEED).json()["ids"]
        assert 200 == client.post("/_sandbox/faults", json={"kind": "503", "path": "details$"}).status_code
        assert 204 == erase(client)
        before = ledger(client)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with served(tmp_path) as (_, client):
        assert before == ledger(client)
        assert [("gdpr_deleted", "1")] == [(line["effect"], line["record"]) for line in before]
        assert 404 == client.get(LOOK).status_code
        assert ["purging"] == [
            row["state"] for row in client.get("/_sandbox/holds", params={"email": ANNA}).json()["holds"]
        ]
        assert ["hubspot.purge"] == [job["what"] for job in client.get("/_sandbox/pending").json()["pending"]]
        assert [503, 200] == [client.get("/hubspot/account-info/v3/details").status_code for _ in range(2)]
        assert ["3"] == client.post(
            "/_sandbox/seed", json={"hubspot": {"contacts": [{"email": ANNA}]}}
        ).json()["ids"]["hubspot.contact"]


def test_broken_connections_break_and_only_lost_answers_have_an_effect(tmp_path: Path) -> None:
    """Over HTTP a reset aborts the socket: before the effect, or after it was made and kept."""
    with served(tmp_path) as (_, client):
        client.post("/_sandbox/seed", json=SEED)
        client.post("/_sandbox/faults", json={"kind": "reset"})
        with pytest.raises(BROKEN):
            erase(client)
        assert [] == ledger(client)
        client.post("/_sandbox/faults", json={"kind": "lost_response"})
        with pytest.raises(BROKEN):
            erase(client)
        assert [False] == [line["repeated"] for line in ledger(client)]
        assert 204 == erase(client)
        assert [False, True] == [line["repeated"] for line in ledger(client)]


def test_the_controls_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    """A mistyped seed or fault is a 400 that quotes nobody, an unknown control a 404."""
    with served(tmp_path) as (_, client):
        answer = client.post("/_sandbox/seed", json={"hubspot": {"contact": [{"email": ANNA}]}})
        assert (400, False) == (answer.status_code, ANNA in answer.text)
        assert 400 == client.post("/_sandbox/faults", json={"kind": "slwo"}).status_code
        assert 400 == client.post("/_sandbox/seed", content=b"{").status_code
        assert 404 == client.get("/_sandbox/secrets").status_code
        assert "BEGIN PUBLIC KEY" in client.get("/_sandbox/superoffice/key.pem").text
        key = client.get("/_sandbox/superoffice/jwks").json()["keys"][0]
        assert key == client.get("/superoffice/Login/.well-known/jwks").json()["keys"][0]


def test_a_seed_file_is_planted_at_the_start_and_mail_is_caught(tmp_path: Path) -> None:
    """The command line's options together: seeds, SMTP, and mail kept as files."""
    seeds = tmp_path / "seeds.json"
    seeds.write_text(json.dumps(SEED))
    kept = tmp_path / "kept"
    command = [sys.executable, "-m", "handlers.sandbox", "--directory", str(kept), "--seed", str(seeds)]
    with subprocess.Popen([*command, "--smtp-port", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            _, _, http, smtp = process.stdout.readline().split()
            with smtplib.SMTP("127.0.0.1", int(smtp.rpartition(":")[2])) as server:
                server.sendmail("radera@example.com", ["privacy@agency.example"], MAIL)
            assert 200 == httpx.get(f"{http}{LOOK}", headers=TOKEN, trust_env=False).status_code
            assert 1 == httpx.get(f"{http}/_sandbox/mail", trust_env=False).json()["count"]
        finally:
            process.kill()
    assert ["000001.eml"] == [file.name for file in (kept / "mail").iterdir()]


def test_changes_of_a_process_are_read_by_the_next(tmp_path: Path) -> None:
    """In process, too: what one sandbox did another opens, and a purge that fell due meanwhile happens."""
    clock = Clock()
    first = Sandbox(tmp_path, clock=clock)
    first.seed({"superoffice": {"persons": [{"email": ANNA, "tickets": 1}]}})
    first.close()
    second = Sandbox(tmp_path, clock=clock)
    assert ["person", "ticket"] == [line["kind"] for line in second.holds(ANNA)]
    assert first.public_key() == second.public_key()
    second.close()


@pytest.mark.anyio
async def test_served_robots_act_by_themselves(tmp_path: Path) -> None:
    """In the background the agency opens its link and answers on it, over real HTTP, with nobody ticking."""
    sandbox = Sandbox(tmp_path, clock=now)
    address = "privacy@agency.example"
    agency = {"name": "a", "address": address, "delay": "PT0S", "candidates": [{"email": ANNA}]}
    sandbox.seed({"agencies": [agency]})
    ports: list[int] = []
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(
                partial(serve, tmp_path, sandbox=sandbox, ready=lambda port, _: ports.append(port))
            )
            while not ports:  # noqa: ASYNC110 - `ready` is a plain function
                await anyio.sleep(0.01)
            link = f"http://127.0.0.1:{ports[0]}/teamtailor/answer"
            sandbox.accept_mail(f"To: {address}\r\n\r\n{ANNA}\r\n{link}\r\n".encode())
            while len(sandbox.ledger(vendor="agencies")) < 3:  # noqa: ASYNC110 - the robots tell nobody
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    noted = [(line["effect"], line.get("status")) for line in sandbox.ledger(vendor="agencies")]
    assert [("said_opened", 401), ("candidate_erased", None), ("said_erased", 401)] == sorted(
        noted, key=order
    )


def order(line: tuple[str, int | None]) -> int:
    return ["said_opened", "candidate_erased", "said_erased"].index(line[0])


def test_several_threads_may_use_one_sandbox(tmp_path: Path) -> None:
    """A supervisor reads the ledger from its own thread meanwhile: no transaction meets another."""
    sandbox = Sandbox(tmp_path, clock=Clock())

    def work(number: int) -> None:
        for step in range(40):
            if number % 2:
                sandbox.ledger()
                sandbox.fault("503")
            else:
                sandbox.seed({"hubspot": {"contacts": [{"email": f"p{number}-{step}@example.com"}]}})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    ids = sandbox.seed({"hubspot": {"contacts": [{"email": ANNA}]}})["hubspot.contact"]
    sandbox.close()
    assert ["81"] == ids


def send(port: int, *, tls: ssl.SSLContext | None = None, login: tuple[str, str] | None = None) -> str:
    """The answer to DATA, or the name of the error."""
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as server:
            if tls is not None:
                server.starttls(context=tls)
            if login is not None:
                server.login(*login)
            server.sendmail("radera@example.com", ["privacy@agency.example"], MAIL)
    except smtplib.SMTPResponseException as error:
        return str(error.smtp_code)
    except (smtplib.SMTPServerDisconnected, ConnectionError):
        return "broken"
    return "taken"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "answer", "kept"),
    [("451", "451", 0), ("550", "550", 0), ("reset", "broken", 0), ("lost_response", "broken", 1)],
)
async def test_a_mail_server_fails_in_its_four_ways(kind: str, answer: str, kept: int) -> None:
    """For now, for good, broken before the mail is kept, and broken after."""
    sandbox = Sandbox(clock=Clock())
    sandbox.fault(kind, vendor="mail")
    async with catch(sandbox) as port:
        said = [await anyio.to_thread.run_sync(send, port) for _ in range(2)]
    assert ([answer, "taken"], kept + 1) == (said, len(sandbox.mail()))


@pytest.mark.anyio
async def test_mail_can_require_tls() -> None:
    """Without it nothing is taken."""
    sandbox = Sandbox(clock=Clock())
    certificate, key = self_signed()
    trusting = ssl.create_default_context(cadata=certificate.decode())
    async with catch(sandbox, tls=(certificate, key), require_starttls=True) as port:
        plain = await anyio.to_thread.run_sync(lambda: send(port))
        protected = await anyio.to_thread.run_sync(lambda: send(port, tls=trusting))
    assert ("530", "taken", 1) == (plain, protected, len(sandbox.mail()))


@pytest.mark.anyio
async def test_mail_can_require_tls_and_a_login() -> None:
    """Without either nothing is taken; with both the mail is."""
    sandbox = Sandbox(clock=Clock())
    certificate, key = self_signed()
    trusting = ssl.create_default_context(cadata=certificate.decode())
    login = ("radera", "s3cret")
    async with catch(sandbox, tls=(certificate, key), require_starttls=True, login=login) as port:
        said = [
            await anyio.to_thread.run_sync(lambda: send(port)),
            await anyio.to_thread.run_sync(lambda: send(port, tls=trusting)),
            await anyio.to_thread.run_sync(lambda: send(port, tls=trusting, login=("radera", "wrong"))),
            await anyio.to_thread.run_sync(lambda: send(port, tls=trusting, login=login)),
        ]
    assert (["530", "530", "535", "taken"], 1) == (said, len(sandbox.mail()))
