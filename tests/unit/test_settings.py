"""What an installation may be told, and what it answers to a file that is wrong."""

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.saga import rules as rules_module
from orchestrator.secret import SecretRef
from orchestrator.settings import ConfigError, Retry, Settings, Waits, load, micros

GOOD = """
[installation]
name = "Example"
domain = "radera.example.com"
public_url = "https://radera.example.com"

[dpo]
address = "dpo@example.com"

[smtp]
host = "mail.example.com"
sender = "radera@example.com"

[systems.crm]
kind = "crm"
account = "007"
token = { env = "CRM_TOKEN" }
"""


class Crm(BaseModel):
    """A handler's own settings, for these tests."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    account: str
    token: SecretRef
    sites: tuple[str, ...] = ()


HTTPS = "answers would travel readable by anyone; use https (http is for this machine alone)"
DURATION = 'not a duration; write it in ISO 8601, as in "P14D" for 14 days or "PT30S" for 30 seconds'
NAME = "not a name that messages can carry; use lower-case letters, digits, '_', '-' and '.'"
KINDS: dict[str, type[BaseModel]] = {"crm": Crm}


def _load(tmp_path: Path, text: str = GOOD, environ: dict[str, str] | None = None) -> Settings:
    file = tmp_path / "radera.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, KINDS, environ or {})


def _problems(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text, environ)
    return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def test_the_least_that_works_gets_sensible_defaults(tmp_path: Path) -> None:
    """A file with only what nobody can guess loads; its paths lie beside it, wherever the process starts."""
    settings = _load(tmp_path)

    assert "Europe/Stockholm" == settings.installation.time_zone
    assert f"sqlite:///{tmp_path}/radera.db" == settings.database.url
    assert tmp_path / "radera.keys" == settings.keys.file
    assert ("127.0.0.1", 8080) == (settings.http.host, settings.http.port)
    assert ("starttls", 587) == (settings.smtp.security, settings.smtp.port)
    assert timedelta(hours=12) == settings.waits.command_lifetime


def test_a_handler_gets_its_own_settings_typed(tmp_path: Path) -> None:
    """What is not common to all systems goes to the model of the system's kind."""
    crm = _load(tmp_path).systems["crm"]

    assert Crm(account="007", token=SecretRef(env="CRM_TOKEN")) == crm.own
    assert timedelta(days=60) == crm.patience


def test_settings_cannot_change(tmp_path: Path) -> None:
    """Nothing can be assigned after loading."""
    settings = _load(tmp_path)

    with pytest.raises(ValidationError):
        settings.dpo.address = "someone@example.org"  # type: ignore[misc]  # mypy sees it, too


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """A variable overrides its key, text stays text, and lists are JSON."""
    settings = _load(
        tmp_path,
        environ={
            "RADERA_SMTP__HOST": "relay.example.com",
            "RADERA_HTTP__PORT": "9000",
            "RADERA_WAITS__PARTY_REMINDER": "P2D",
            "RADERA_SYSTEMS__CRM__ACCOUNT": "0042",
            "RADERA_SYSTEMS__CRM__SITES": '["a.example", "b.example"]',
            "RADERA_CRM_TOKEN": "a secret that a SecretRef may name",
        },
    )

    assert "relay.example.com" == settings.smtp.host
    assert 9000 == settings.http.port
    assert timedelta(days=2) == settings.waits.party_reminder
    assert "0042" == settings.systems["crm"].own.account
    assert ("a.example", "b.example") == settings.systems["crm"].own.sites


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """One run shows all that has to be mended, each with file, key, fault and mend."""
    broken = """
[installation]
name = "Example"
domain = "not a domain"
public_url = "http://radera.example.com"
time_zone = "Europe/Stokholm"

[dpo]
adress = "dpo@example.com"

[smtp]
host = "mail.example.com"
sender = "radera@example.com"
timeout = 30

[retry]
first = "PT2H"
cap = "PT1H"

[systems.crm]
kind = "crm"
acount = "007"
token = { env = "CRM_TOKEN" }
after = ["cmr"]
"""
    assert [
        "radera.toml: dpo.address: missing; add it (The mailbox that completions and escalations go to)",
        "radera.toml: dpo.adress: there is no such key; did you mean address?",
        "radera.toml: installation.domain: not a domain name; write it as in radera.example.com",
        f"radera.toml: installation.public_url: {HTTPS}",
        'radera.toml: installation.time_zone: no such time zone; use an IANA name, as in "Europe/Stockholm"',
        "radera.toml: retry.cap: shorter than first; make it at least as long",
        f"radera.toml: smtp.timeout: {DURATION}",
        "radera.toml: systems.crm.account: missing; add it",
        "radera.toml: systems.crm.acount: there is no such key; did you mean account?",
        "radera.toml: systems.crm.after: there is no system cmr; did you mean crm?",
    ] == _problems(tmp_path, broken)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            'name = "Example"',
            'name = "Example"\ntime_zone = "Mars/Olympus"',
            'installation.time_zone: no such time zone; use an IANA name, as in "Europe/Stockholm"',
        ),
        (
            'name = "Example"',
            'name = "Example"\ncountry = "ZZ"',
            'installation.country: its public holidays are not known; use an ISO 3166 code, as in "SE"',
        ),
        (
            'name = "Example"',
            'name = "Example"\nsubdivision = "BY"',
            "installation.subdivision: not known in this country; it has none",
        ),
        (
            'address = "dpo@example.com"',
            'address = "dpo@example.com, x@example.org"',
            "dpo.address: not a mail address; write one plain address, as in dpo@example.com",
        ),
        (
            'address = "dpo@example.com"',
            'address = "dpo@example.com\\nBcc: x@example.org"',
            "dpo.address: has a control character or a line break in it; take it out",
        ),
        (
            'host = "mail.example.com"',
            'host = "mail.example.com"\nsecurity = "none"',
            'smtp.security: "none" is only for a server on this machine; use "starttls" or "tls"',
        ),
        (
            'host = "mail.example.com"',
            'host = "mail.example.com"\nusername = "radera"',
            "smtp: username and password come together; give both or neither",
        ),
        (
            'kind = "crm"',
            'kind = "cmr"',
            "systems.crm.kind: there is no such kind; use one of crm, holds_nothing",
        ),
        (
            'kind = "crm"',
            'kind = "crm"\nafter = ["crm"]',
            "systems.crm.after: goes in a circle (crm after crm); break it",
        ),
        (
            'kind = "crm"',
            'kind = "crm"\nlook_again = ["P2D", "P1D"]',
            "systems.crm: look_again: not in order; write each time once, the soonest first",
        ),
        (
            "[systems.crm]",
            '[systems.leaflet]\nkind = "holds_nothing"\n[systems.crm]',
            "systems.leaflet.reason: missing; say why nothing in it can be traced to a person",
        ),
        (
            "[systems.crm]",
            '[systems."Our CRM"]',
            f"systems.Our CRM: {NAME}",
        ),
        (
            "[dpo]",
            '[database]\nurl = "postgresql://radera:hunter2@db.example.com/radera"\n[dpo]',
            "database.url: holds a password; take it out and name where it is in database.password",
        ),
        (
            "[dpo]",
            '[database]\npassword = { env = "DB_PASSWORD" }\n[dpo]',
            "database.password: SQLite has none; take it away, or name a server in url",
        ),
        (
            "[dpo]",
            '[keys]\nmaster = { file = "/run/secrets/master-keys" }\n[dpo]',
            "keys: master and digest come together; give both or neither",
        ),
        (
            "[dpo]",
            '[database]\nurl = "sqlite:///:memory:"\n[dpo]',
            "database.url: a database in memory forgets every request on a restart; name a file",
        ),
        (
            "[dpo]",
            '[retention]\nevents = "P1D"\n[dpo]',
            "retention.events: shorter than messages, so a replay would count twice; make it as long",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_mend(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """Each thing that can't be right names its key and how to mend it."""
    text = GOOD.replace(old, new, 1)
    problem = problem.replace("systems.crm: look_again", "systems.crm.look_again")

    assert f"radera.toml: {problem}" in _problems(tmp_path, text)


def test_a_longer_circle_is_shown_whole(tmp_path: Path) -> None:
    """The reader sees each system on the way round, so that he can choose where to break it."""
    ring = GOOD
    for name, after in (("a", "b"), ("b", "c"), ("c", "a")):
        ring += (
            f'\n[systems.{name}]\nkind = "crm"\naccount = "1"\ntoken = {{ env = "T" }}\nafter = ["{after}"]\n'
        )

    (problem,) = _problems(tmp_path, ring)

    assert "goes in a circle" in problem
    assert all(f"{name} after" in problem for name in "abc")


def test_an_installation_without_systems_is_refused(tmp_path: Path) -> None:
    """Nothing to erase from would complete every request at once."""
    assert ["radera.toml: systems: missing; add it"] == _problems(tmp_path, GOOD.split("[systems")[0])
    assert ["radera.toml: systems: missing; add it"] == _problems(
        tmp_path, GOOD.split("[systems")[0] + "[systems]\n"
    )


def test_a_system_that_holds_nothing_needs_only_its_reason(tmp_path: Path) -> None:
    """It was considered, and the record shows why there is nothing in it."""
    text = GOOD + '\n[systems.survey]\nkind = "holds_nothing"\nreason = "Anonymous from the start"\n'
    survey = _load(tmp_path, text).systems["survey"]

    assert survey.holds_nothing
    assert survey.own is None
    assert ["radera.toml: systems.survey.token: means nothing here; remove it"] == _problems(
        tmp_path, text + 'token = "x"\n'
    )


def test_no_error_repeats_a_value(tmp_path: Path) -> None:
    """A secret put in the wrong place stays out of the terminal and the log."""
    canary = "pat-eu1-CANARY"
    text = (
        GOOD.replace('{ env = "CRM_TOKEN" }', f'"{canary}"')
        .replace(
            'host = "mail.example.com"',
            f'host = "mail.example.com"\npassword = "{canary}"\nport = "{canary}"',
        )
        .replace('kind = "crm"', f'kind = "crm"\nlook_again = "{canary}"\nextra = "{canary}"')
    )
    problems = _problems(tmp_path, text, {"RADERA_HTTP__PORT": canary, "RADERA_WAITS": canary})

    assert 6 == len(problems)
    assert canary not in "\n".join(problems)
    assert any(
        problem.startswith("radera.toml: systems.crm.token: a secret stands in") for problem in problems
    )


def test_a_problem_from_the_environment_names_the_variable(tmp_path: Path) -> None:
    """Nobody searches the file for what a variable set."""
    problems = _problems(
        tmp_path,
        GOOD,
        {"RADERA_HTTP__PROT": "1", "RADERA_SMPT__HOST": "x", "RADERA_SYSTEMS__CRM__SITES": "[oops"},
    )

    assert [
        "environment: RADERA_HTTP__PROT: there is no such key; did you mean port?",
        "environment: RADERA_SMPT__HOST: there is no such setting; unset it",
        "environment: RADERA_SYSTEMS__CRM__SITES: not valid JSON; mend the quoting",
    ] == problems


def test_a_file_that_is_not_there_or_not_toml_says_so(tmp_path: Path) -> None:
    """The first thing a new user meets is a sentence, not a traceback."""
    with pytest.raises(ConfigError, match="there is no such file; copy one of deploy/examples"):
        load(tmp_path / "none.toml", KINDS, {})
    (problem,) = _problems(tmp_path, "[installation\n")
    assert problem.startswith("radera.toml: not valid TOML: ")


def test_a_shown_secret_reference_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither repr nor a dump of the settings holds what a reference points at."""
    monkeypatch.setenv("CRM_TOKEN", "pat-eu1-CANARY")
    settings = _load(tmp_path)

    assert "CANARY" not in repr(settings) + json.dumps(settings.model_dump(mode="json"))
    assert "pat-eu1-CANARY" == settings.systems["crm"].own.token.read()


def test_waits_and_retries_are_those_that_the_sagas_keep() -> None:
    """Each setting has the rule it sets, with the same default, and no rule is left without a setting."""
    for section, rules in ((Waits(), rules_module.Waits()), (Retry(), rules_module.Retry())):
        given = {
            name: micros(value) if isinstance(value, timedelta) else value
            for name, value in section.model_dump().items()
        }
        assert given == asdict(rules)


def test_micros_counts_whole_microseconds() -> None:
    """Durations become integers without passing through a float."""
    assert 3 * 365 * 86_400 * 1_000_000 == micros(timedelta(days=3 * 365))
    assert 1_000_001 == micros(timedelta(seconds=1, microseconds=1))
