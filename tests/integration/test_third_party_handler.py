"""A handler that a stranger ships: the example in deploy/examples/handler, installed as its own package."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from typing_extensions import override

from orchestrator.cli.main import main
from tests.integration.ports import free_port
from tests.integration.processes import RADERA, environment, eventually

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "examples" / "handler"
TOKEN = "help-desk-token"
ANNA = "kanarie.anna@people.example"
CONTROL = "control@controller.example"

SETTINGS = """\
[installation]
name = "Controller AB"
domain = "radera.controller.example"
public_url = "http://127.0.0.1:{port}"

[http]
port = {port}

[dpo]
address = "dpo@controller.example"

[smtp]
host = "127.0.0.1"
port = {nobody}
security = "none"
sender = "radera@controller.example"

[notices]
subject = "none"

[systems.support]
kind = "helpdesk"
look_again = []
workspace = "acme"
url = "{vendor}"
token = {{ env = "HELPDESK_TOKEN" }}
control_email = "{control}"
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed, beside ours and not in it; offline, from its folder."""
    folder = tmp_path_factory.mktemp("site")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(folder), str(EXAMPLE)]
    subprocess.run(command, check=True, timeout=90)
    return folder


@pytest.fixture
def installed(target: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """This process has the package, and so has one with the environment that is given."""
    monkeypatch.syspath_prepend(str(target))
    monkeypatch.setenv("HELPDESK_TOKEN", TOKEN)
    yield environment(PYTHONPATH=str(target), PYTHONDONTWRITEBYTECODE="1")
    for name in [name for name in sys.modules if name.partition(".")[0] == "radera_helpdesk"]:
        del sys.modules[name]


class _Door(http.server.BaseHTTPRequestHandler):
    """The help desk over HTTP: two people, and one ticket each."""

    people: dict[str, str]
    tickets: dict[str, str]

    def _answer(self, method: str) -> tuple[int, Any]:
        path, _, query = self.path.partition("?")
        match method, path.strip("/").split("/")[1:]:
            case _ if self.headers["Authorization"] != f"Bearer {TOKEN}":
                return 401, None
            case "GET", ["workspace"]:
                return 200, {"id": "acme"}
            case "GET", ["people"]:
                asked = query.removeprefix("email=").replace("%40", "@")
                rows = [{"id": id_, "email": email} for id_, email in self.people.items() if email == asked]
                return 200, {"rows": rows}
            case "GET", ["people", id_, "tickets"]:
                rows = [{"id": one, "person": of} for one, of in self.tickets.items() if of == id_]
                return 200, {"rows": rows}
            case _, ["people" | "tickets" as place, id_] if id_ in getattr(self, place):
                held = getattr(self, place)
                value = held.pop(id_) if method == "DELETE" else held[id_]
                return 200, {"id": id_, ("email" if place == "people" else "person"): value}
        return 404, None

    def do_GET(self) -> None:
        self._reply(*self._answer("GET"))

    def do_DELETE(self) -> None:
        self._reply(*self._answer("DELETE"))

    def _reply(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def vendor() -> Iterator[tuple[str, type[_Door]]]:
    """A help desk of its own, and what it holds."""

    class Door(_Door):
        people = {"p1": ANNA, "p2": "beata@people.example", "p0": CONTROL}  # noqa: RUF012 - one class a test
        tickets = {"t1": "p1", "t2": "p2"}  # noqa: RUF012 - one class for each test

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", Door
        server.shutdown()
        thread.join()


def _settings(folder: Path, vendor: str) -> Path:
    config = folder / "radera.toml"
    text = SETTINGS.format(port=free_port(), nobody=free_port(), vendor=vendor, control=CONTROL)
    config.write_text(text)
    return config


def _radera(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--config", str(config)])


def test_the_examples_own_tests_pass(installed: dict[str, str]) -> None:
    """What strangers copy is right, as its own tests have it, against the installed package."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    command += ["-p", "no:xdist", "-c", os.devnull, "--rootdir", str(EXAMPLE), str(EXAMPLE / "tests")]
    ran = subprocess.run(
        command, env=installed, capture_output=True, text=True, timeout=110, check=False, cwd=EXAMPLE
    )
    assert 0 == ran.returncode, ran.stdout


@pytest.mark.usefixtures("installed")
def test_its_settings_are_read_where_it_is_installed(tmp_path: Path) -> None:
    """Its table is checked by its own model, with the names that this one knows."""
    config = _settings(tmp_path, "http://127.0.0.1:9")
    assert 0 == _radera(config, "config", "check").exit_code
    config.write_text(config.read_text().replace("workspace =", "workspce ="))
    misspelt = _radera(config, "config", "check")
    assert 0 != misspelt.exit_code
    assert "did you mean workspace?" in misspelt.output


def test_its_kind_is_unknown_where_it_is_not_installed(tmp_path: Path) -> None:
    """The settings say so, and which kinds there are."""
    refused = _radera(_settings(tmp_path, "http://127.0.0.1:9"), "config", "check")
    assert 0 != refused.exit_code
    assert "systems.support.kind: there is no such kind" in refused.output


def test_a_person_is_erased_with_it(
    installed: dict[str, str], tmp_path: Path, vendor: tuple[str, type[_Door]]
) -> None:
    """From the check to the proof, in a process that knows it by its entry point alone."""
    url, held = vendor
    config, log = _settings(tmp_path, url), tmp_path / "log"
    checked = _radera(config, "systems", "check")
    assert (0, ["support", "ok"]) == (checked.exit_code, checked.output.split()[:2])
    with log.open("wb") as out:
        command = [RADERA, "up", "--config", str(config)]
        process = subprocess.Popen(command, env=installed, stdout=out, stderr=out)
    try:
        eventually("it is up", lambda: b"radera: up, " in log.read_bytes(), within=60)
        request_id = _radera(config, "submit", "--email", ANNA).stdout.strip()

        def is_proved() -> bool:
            shown = _radera(config, "status", request_id, "--json").output
            return '"erased"' in shown and '"seen_absent"' in shown

        eventually("she is gone, and seen to be", is_proved, within=120, every=0.2)
    finally:
        process.terminate()
        code = process.wait(30)
    assert 0 == code
    assert {"p2", "p0"} == set(held.people)
    assert {"t2"} == set(held.tickets)
    assert ANNA.encode() not in log.read_bytes()
