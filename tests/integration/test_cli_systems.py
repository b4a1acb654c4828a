"""`radera systems check`: against served stand-ins, before anything of an installation was made."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli.main import main
from tests.integration import settings
from tests.integration.processes import Vendors, vendors

SYSTEMS = ["superoffice", "hubspot", "web_analytics", "agency_nord", "agency_syd", "tenant_byggab"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    """The stand-ins, with their accounts and control records."""
    with vendors(tmp_path_factory.mktemp("vendors")) as made:
        settings.open_accounts(made)
        yield made


@pytest.fixture
def config(served: Vendors, tmp_path: Path) -> Path:
    return settings.write_settings(tmp_path, served, http_port=1)


def check(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["systems", "check", "--config", str(config), *arguments])


def test_a_line_for_each_system_and_nothing_is_made(config: Path) -> None:
    """All well: 0, and neither a database nor keys; what can't be shown is said beside it."""
    result = check(config)
    assert 0 == result.exit_code, result.output
    lines = result.output.splitlines()
    assert SYSTEMS == [line.split()[0] for line in lines]
    assert {"ok"} == {line.split()[1] for line in lines}
    assert "reachable, credentials, account, rights, control record; rights: " in lines[0]
    assert 1 == lines[3].count("asked by mail")
    assert ["radera.toml", "secrets"] == sorted(one.name for one in config.parent.iterdir())


def test_one_that_fails_names_the_setting_and_the_others_are_checked(config: Path) -> None:
    """1; the line says what is wrong and where it is mended, and no secret or address."""
    (config.parent / "secrets" / "hubspot").write_text("pat-eu1-wrong")
    result = check(config)
    assert 1 == result.exit_code
    failed = [line for line in result.output.splitlines() if " FAILED " in line]
    assert ["hubspot"] == [line.split()[0] for line in failed]
    assert "credentials: refused" in failed[0]
    assert "see systems.hubspot.token" in failed[0]
    assert [] == [word for word in ("pat-eu1", settings.CONTROL) if word in result.output]


def test_named_systems_alone_are_checked_and_as_json(config: Path) -> None:
    """For a script: what was found of each aspect, with codes that don't change."""
    text = config.read_text().replace("portal_id = 1234567", "portal_id = 7")
    config.write_text(text)
    result = check(config, "hubspot", "web_analytics", "--json")
    assert 1 == result.exit_code
    document = json.loads(result.output)
    assert (False, ["hubspot", "web_analytics"]) == (
        document["ok"],
        [one["system"] for one in document["systems"]],
    )
    hubspot = {one["aspect"]: one for one in document["systems"][0]["findings"]}
    assert ("ok", "failed", "wrong_account", "unknown") == (
        hubspot["credentials"]["state"],
        hubspot["account"]["state"],
        hubspot["account"]["code"],
        hubspot["control"]["state"],
    )


def test_a_name_that_is_no_system_is_said_with_those_that_are(config: Path) -> None:
    """2: what was given is wrong."""
    result = check(config, "hubspott")
    assert 2 == result.exit_code
    assert "there is no such system" in result.output
    assert "web_analytics" in result.output


def test_a_place_that_holds_nothing_is_on_the_list(config: Path) -> None:
    """There is nothing to check of it, and the line says why."""
    table = '\n[systems.survey]\nkind = "holds_nothing"\nreason = "Surveys are anonymous."\n'
    config.write_text(config.read_text() + table)
    result = check(config, "survey")
    assert 0 == result.exit_code
    assert "holds nothing: Surveys are anonymous." in result.output
