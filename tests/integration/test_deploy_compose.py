"""compose.yaml: valid by the specification's own reader, and in agreement with the rest."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import click
import pytest

from orchestrator.cli.assembly import load_settings
from orchestrator.cli.main import main
from orchestrator.cli.roles import ALL
from tests.deploy.tools import DEPLOY, documents, program, run
from tests.integration.kafka_server import IMAGE

OWN = (*ALL, "upgrade", "topics")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The services, as the specification's reader understands them, with secrets made for the occasion."""
    reader = program("compose-spec")
    copy = tmp_path_factory.mktemp("compose") / "deploy"
    shutil.copytree(DEPLOY, copy)
    run(str(copy / "container" / "new-secrets"), str(copy / "compose" / "secrets"))
    read = json.loads(run(reader, "-format", "json", "compose.yaml", cwd=copy))
    for service in read["services"].values():
        for volume in service.get("volumes", []):
            assert "bind" != volume["type"] or Path(volume["source"]).exists(), volume
    for secret in read["secrets"].values():
        assert Path(secret["file"]).is_file(), secret
    for service in read["services"].values():
        # The reader leaves these files to whoever starts the containers.
        for file in service.get("env_file", []):
            service.setdefault("environment", {}).update(variables(Path(file["path"])))
    found: dict[str, dict[str, Any]] = read["services"]
    return found


def variables(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def test_it_is_valid_and_all_is_there(services: dict[str, dict[str, Any]]) -> None:
    """The file is read without an objection, every file that it mounts exists, and its Kafka is the one that
    Radera is tried with, in the tests' container, too.
    """
    around = {"grants", "postgres", "kafka", "mail", "prometheus", "alertmanager", "grafana"}

    assert {*OWN, *around} == set(services)
    pom = (DEPLOY / "kafka" / "pom.xml").read_text()
    (kafka,) = re.findall(r"<kafka.version>(.+)</kafka.version>", pom)
    tried = f"docker.io/apache/kafka:{kafka}"
    assert [tried] * 2 == [services["kafka"]["image"], f"docker.io/{IMAGE}"]
    assert [] == [
        name for name, one in services.items() if not re.search(r":[\w.-]*\d|:local$", one["image"])
    ]


def test_our_processes_can_do_nothing_that_they_need_not(services: dict[str, dict[str, Any]]) -> None:
    """As on Kubernetes: a read-only image, no capabilities, and each role its own account."""
    for name in OWN:
        service = services[name]
        assert service["read_only"] is True
        assert ["ALL"] == service["cap_drop"]
        assert ["no-new-privileges:true"] == service["security_opt"]
        assert "512m" == service["mem_limit"]
    accounts = {name: services[name].get("environment", {}).get("PGUSER") for name in (*OWN, "grants")}
    expected: dict[str, str | None] = {role: f"radera_{role}" for role in ALL}
    assert expected | {"upgrade": "radera_owner", "grants": "radera_owner", "topics": None} == accounts
    with_keys = {name for name, one in services.items() if "RADERA_MASTER_KEYS" in one.get("environment", {})}
    assert set(ALL) == with_keys


def test_only_this_machine_reaches_it(services: dict[str, dict[str, Any]]) -> None:
    """What is published is published on loopback."""
    published = {name: one["ports"] for name, one in services.items() if "ports" in one}

    assert {"serve", "mail", "prometheus", "alertmanager", "grafana"} == set(published)
    assert {"127.0.0.1"} == {port["host_ip"] for ports in published.values() for port in ports}


def test_our_processes_run_what_exists_with_settings_that_are_right(
    services: dict[str, dict[str, Any]],
) -> None:
    """Each role is run, once, with settings that the program reads and that name the services."""
    assert isinstance(main, click.Group)
    assert {role: [role] for role in ALL} == {role: services[role]["command"] for role in ALL}
    for name in OWN:
        command: click.Command = main
        for word in services[name]["command"]:
            assert isinstance(command, click.Group), name
            command = command.commands[word]
    settings = load_settings(DEPLOY / "compose" / "radera.toml")
    assert settings.kafka is not None
    hosts = {settings.smtp.host, *(server.split(":")[0] for server in settings.kafka.servers)}
    assert {"mail", "kafka"} == hosts
    assert "@" not in settings.database.url
    assert "//postgres:" in settings.database.url


def test_prometheus_asks_every_role(services: dict[str, dict[str, Any]]) -> None:
    """Each role by its own name, on the port that it listens on."""
    (config,) = documents((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    port = load_settings(DEPLOY / "compose" / "radera.toml").http.port
    asked = {one["labels"]["role"]: one["targets"] for one in job["static_configs"]}

    assert "radera" == job["job_name"]
    assert {role: [f"{role}:{port}"] for role in ALL} == asked
    assert set(ALL) <= set(services)


def test_grafana_finds_its_source_and_its_dashboard(services: dict[str, dict[str, Any]]) -> None:
    """What is provisioned lies where it is looked for."""
    provisioning = DEPLOY / "grafana" / "provisioning"
    (sources,) = documents((provisioning / "datasources" / "prometheus.yaml").read_text())
    (providers,) = documents((provisioning / "dashboards" / "radera.yaml").read_text())
    mounted = {volume["target"]: volume["source"] for volume in services["grafana"]["volumes"]}
    folder = providers["providers"][0]["options"]["path"]

    assert "http://prometheus:9090" == sources["datasources"][0]["url"]
    assert (Path(mounted[folder]) / "radera.json").is_file()
    assert (
        f"{folder}/radera.json"
        == services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    )
