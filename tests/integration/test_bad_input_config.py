"""A broken configuration: `radera config check` names the key and the mend, and nothing starts on it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.installation import SETTINGS, radera, write_settings

LITERAL = "pat-eu1-canary-secret"
SECRETS = {"CRM_TOKEN": "one", "LETTERS_TOKEN": "two"}


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


BROKEN = [
    # (what is replaced, by what, the key that is named, what is said)
    ('name = "Controller AB"', 'name = "Controller AB', "not valid TOML", "line 2"),
    ('country = "SE"', 'kountry = "SE"', "installation.kountry", "did you mean country?"),
    ("[dpo]", "[dop]", "dop", "did you mean dpo?"),
    ("port = 8089", 'port = "many"', "http.port", "mend the value"),
    ("port = 8089", "port = 70000", "http.port", "mend the value"),
    ("port = 8089", "port = 80.5", "http.port", "mend the value"),
    (
        'token = { env = "CRM_TOKEN" }',
        f'token = "{LITERAL}"',
        "systems.crm.token",
        "a secret stands in the settings",
    ),
    ('token = { env = "CRM_TOKEN" }', "token = {}", "systems.crm.token", "give exactly one of"),
    ('token = { env = "CRM_TOKEN" }', "", "systems.crm.token", "missing; add it"),
    ("portal_id = 1\n", 'portal_id = "x"\n', "systems.crm.portal_id", "mend the value"),
    ("portal_id = 1\n", "portal_id = 1\nportal = 1\n", "systems.crm.portal", "did you mean portal_id?"),
    (
        '[systems.crm]\nkind = "hubspot"',
        '[systems.crm]\nkind = "hubspott"',
        "systems.crm.kind",
        "there is no such kind",
    ),
    ('[systems.crm]\nkind = "hubspot"', "[systems.crm]", "systems.crm.kind", "missing; add it"),
    ('[systems.crm]\nkind = "hubspot"', "[systems.crm]\nkind = 5", "systems.crm.kind", "mend the value"),
    ("[systems.crm]", '[systems."C R M"]', "systems.C R M", "not a name that messages can carry"),
    ("portal_id = 1\n", 'portal_id = 1\nafter = ["letters"]\n', "after", "goes in a circle"),
    (
        'after = ["crm"]',
        'after = ["cmr"]',
        "systems.letters.after",
        "there is no system cmr; did you mean crm?",
    ),
    ('after = ["crm"]', 'after = ["letters"]', "systems.letters.after", "goes in a circle"),
    ('after = ["crm"]', "after = 5", "systems.letters.after", "mend the value"),
    ('country = "SE"', 'time_zone = "Europe/Stokholm"', "installation.time_zone", "no such time zone"),
    ('country = "SE"', 'time_zone = "../../etc/passwd"', "installation.time_zone", "no such time zone"),
    ('country = "SE"', 'time_zone = ""', "installation.time_zone", "no such time zone"),
    ('country = "SE"', 'country = "Sweden"', "installation.country", "use an ISO 3166 code"),
    ('country = "SE"', "country = 46", "installation.country", "mend the value"),
    ('address = "dpo@controller.example"', 'address = "the dpo"', "dpo.address", "not a mail address"),
    ('security = "none"', 'security = "nine"', "smtp.security", "mend the value"),
    ('host = "127.0.0.1"', 'host = "mail.example.com"', "smtp.security", 'use "starttls" or "tls"'),
    (
        'public_url = "http://127.0.0.1:8089"',
        'public_url = "http://radera.example"',
        "installation.public_url",
        "use https",
    ),
    ("[dpo]", '[waits]\nreview = "7 days"\n\n[dpo]', "waits.review", "not a duration"),
    ("[dpo]", "[waits]\nreview = 7\n\n[dpo]", "waits.review", "not a duration"),
    ("[dpo]", '[waits]\nreview = "-P7D"\n\n[dpo]', "waits.review", "not a duration"),
    ("[dpo]", '[database]\nurl = "mysql://x/y"\n\n[dpo]', "database.url", 'write "sqlite:///radera.db"'),
    ("[dpo]", '[database]\nurl = "sqlite://"\n\n[dpo]', "database.url", "sqlite"),
]


@pytest.mark.parametrize(("old", "new", "key", "said"), BROKEN)
def test_a_broken_setting_is_named_with_its_mend(
    tmp_path: Path, old: str, new: str, key: str, said: str
) -> None:
    """Exit code 2, the file and the key, what is wrong and what to do; never the value of a secret."""
    settings = SETTINGS.replace("[http]", 'country = "SE"\n\n[http]')
    file = write_settings(tmp_path, settings, (old, new))
    result = radera("config", "check", "--config", str(file))
    assert (2, "") == (result.exit_code, result.stdout)
    named = [line for line in result.stderr.splitlines() if key in line and said in line]
    assert named, result.stderr
    assert all(line.startswith(f"radera: {file}: ") for line in result.stderr.splitlines())
    assert LITERAL not in result.output


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"installation = 5\nsystems = []\n",
        b"systems = { crm = 5 }\n",
        b"[systems.crm]\nkind = [1]\nafter = [1]\n",
        b"a = " + b"[" * 3000 + b"]" * 3000,
        b"a = " + b"9" * 5000,
        b"[installation]\nname = 2026-13-45\n",
        b'[installation]\nname = "a\\u0000b"\n',
        b"[[systems]]\nkind = 1\n",
    ],
)
def test_whatever_is_in_the_file_is_told_not_thrown(tmp_path: Path, text: bytes) -> None:
    """Exit code 2, and each line names the file."""
    file = tmp_path / "radera.toml"
    file.write_bytes(text)
    result = radera("config", "check", "--config", str(file))
    assert 2 == result.exit_code, result.stderr
    assert all(line.startswith(f"radera: {file}: ") for line in result.stderr.splitlines())


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    """Whoever mends the file need not come back for the next one."""
    file = write_settings(
        tmp_path,
        SETTINGS,
        ("portal_id = 1\n", 'portal_id = "x"\n'),
        ("port = 8089", "port = 0"),
        ("[dpo]", "[dop]"),
    )
    result = radera("config", "check", "--config", str(file))
    assert 4 == len(result.stderr.splitlines())


def test_a_good_configuration_is_said_to_be_all_right(tmp_path: Path) -> None:
    """With the systems that it names."""
    file = write_settings(tmp_path)
    result = radera("config", "check", "--config", str(file))
    assert 0 == result.exit_code, result.stderr
    assert f"{file}: all right; 4 systems: crm, letters, agency, survey\n" == result.stdout


def test_a_variable_that_overrides_is_named_where_it_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's share of the settings is told apart from the file's."""
    monkeypatch.setenv("RADERA_HTTP__PORT", "many")
    monkeypatch.setenv("RADERA_HTPP__PORT", "1")
    result = radera("config", "check", "--config", str(write_settings(tmp_path)))
    assert 2 == result.exit_code
    assert "environment: RADERA_HTTP__PORT: " in result.stderr
    assert "environment: RADERA_HTPP__PORT: there is no such setting; unset it" in result.stderr


# --- secrets ---


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ('{ env = "NOT_THERE" }', "environment variable NOT_THERE is not set or empty: set it"),
        (
            '{ file = "/nowhere/token" }',
            "cannot read the secret file /nowhere/token (No such file or directory)",
        ),
        ('{ file = "/dev/null" }', "the secret file /dev/null is empty: write the secret into it"),
        ('{ file = "/" }', "cannot read the secret file / (Is a directory)"),
    ],
)
def test_a_missing_secret_is_found_by_the_check(tmp_path: Path, reference: str, said: str) -> None:
    """It would fail at its first use, days later; the check says it now, with its key."""
    file = write_settings(tmp_path, SETTINGS, ('{ env = "CRM_TOKEN" }', reference))
    result = radera("config", "check", "--config", str(file))
    assert 2 == result.exit_code
    assert f"radera: {file}: systems.crm.token: {said}" in result.stderr


def test_master_keys_that_everybody_can_read_are_found_by_the_check(tmp_path: Path) -> None:
    """They are refused at the start, so the check says it before."""
    (tmp_path / "keys").write_text("a key")
    (tmp_path / "keys").chmod(0o444)
    reference = f'{{ file = "{tmp_path}/keys" }}'
    keys = f"[keys]\nmaster = {reference}\ndigest = {reference}\n\n[dpo]"
    file = write_settings(tmp_path, SETTINGS, ("[dpo]", keys))
    result = radera("config", "check", "--config", str(file))
    assert 2 == result.exit_code
    for name in ("master", "digest"):
        assert f"radera: {file}: keys.{name}: everybody on this machine can read" in result.stderr


# --- starting ---


UP = [sys.executable, "-c", "from orchestrator.cli.main import main; main()", "up", "--config"]


def up(file: Path) -> subprocess.CompletedProcess[str]:
    """`radera up`, which is not expected to stay up."""
    return subprocess.run(
        [*UP, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_nothing_starts_on_a_broken_configuration(tmp_path: Path) -> None:
    """Exit code 2, the same lines as the check, and neither a database nor keys are made."""
    file = write_settings(tmp_path, SETTINGS, ("port = 8089", 'port = "many"'))
    done = up(file)
    assert (2, True) == (done.returncode, f"radera: {file}: http.port: " in done.stderr)
    assert "Traceback" not in done.stderr
    assert [file] == list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """Exit code 1 and what to do; the process ends rather than run without its HTTP half."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = up(write_settings(tmp_path, SETTINGS, ("port = 8089", f"port = {port}")))
    assert 1 == done.returncode
    assert f"radera: can't listen on 127.0.0.1 port {port} (Address already in use): free it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "section",
    [
        '[database]\nurl = "sqlite:////nowhere/at/all/radera.db"',
        '[database]\nurl = "sqlite:///radera.toml/radera.db"',
        '[keys]\nfile = "/nowhere/at/all/radera.keys"',
        '[database]\nurl = "sqlite:///."',
    ],
)
def test_a_place_that_is_not_there_is_named(tmp_path: Path, section: str) -> None:
    """A database or a key file that can't be made: exit code 1, the place and the mend."""
    file = write_settings(tmp_path, SETTINGS, ("[dpo]", f"{section}\n\n[dpo]"))
    result = radera("submit", "--email", "canary@people.example", "--config", str(file))
    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines())), result.stderr
    assert "a fault in Radera" not in result.stderr


def test_a_missing_secret_is_told_at_the_start_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process says which key lacks its secret and stays up: it is read at each use."""
    monkeypatch.delenv("LETTERS_TOKEN")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    file = write_settings(tmp_path, SETTINGS, ("port = 8089", f"port = {port}"))
    said = ""
    with subprocess.Popen(
        [*UP, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            if line.startswith("radera: up, "):
                break
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(4)
        process.kill()
    assert f"radera: {file}: systems.letters.token: environment variable LETTERS_TOKEN is not set" in said
    assert "systems.crm.token" not in said
    assert "radera: up, " in said
