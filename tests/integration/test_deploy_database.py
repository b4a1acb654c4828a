"""The way to the database that the manifests go, on a real PostgreSQL that asks for passwords."""

import os
import re
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Engine

from orchestrator.secret import SecretRef
from orchestrator.store import open_engine
from orchestrator.store.errors import NoPassword, ServerAway
from tests.deploy.tools import DEPLOY, documents, run
from tests.integration.postgresql_server import LocalServer, connect, own_postgresql
from tests.integration.processes import RADERA, environment

__all__ = ["own_postgresql"]

KUBERNETES = DEPLOY / "kubernetes"
EXAMPLE = KUBERNETES / "overlays" / "example" / "radera.toml"
#: What is mounted, and which variable of `new-secrets` it is the value of.
FILES = {
    "master-keys": "RADERA_MASTER_KEYS",
    "digest-key": "RADERA_DIGEST_KEY",
    "database-password": "PGPASSWORD",
}
PASSWORDS_ASKED = """\
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


def test_accounts_tables_and_grants_fit_together(own_postgresql: LocalServer, tmp_path: Path) -> None:
    """The accounts are made with the passwords that the roles will give, the owner makes the tables and the
    grants, and then each role gets in: with compose by variables alone, on Kubernetes with the password and
    the keys in files, which the group can read. A new password counts for the next connection.
    """
    secrets = tmp_path / "secrets"
    run(str(DEPLOY / "container" / "new-secrets"), str(secrets))
    server = own_postgresql.url
    with connect(server) as connection:
        connection.execute("CREATE DATABASE radera")
        (hba,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        Path(hba).write_text(PASSWORDS_ASKED)
        connection.execute("SELECT pg_reload_conf()")
    database = server.set(database="radera")
    with connect(database) as connection:
        connection.execute((DEPLOY / "postgresql" / "roles.sql").read_bytes())
        connection.execute((secrets / "database-passwords.sql").read_bytes())
    settings = tmp_path / "radera.toml"
    text = (DEPLOY / "compose" / "radera.toml").read_text()
    assert "//postgres:5432/" in text
    settings.write_text(text.replace("//postgres:5432/", f"//{server.host}:{server.port}/"))

    def radera(role: str, *words: str) -> str:
        given = _variables(secrets / f"database-{role}.env") | _variables(secrets / "keys.env")
        return run(RADERA, *words, "--config", str(settings), cwd=tmp_path, env=environment(**given))

    radera("owner", "db", "upgrade")
    _grant(own_postgresql, _variables(secrets / "database-owner.env"), tmp_path / "owner")

    for role in ("orchestrator", "worker"):
        radera(role, "db", "current")
    assert "[]\n" == radera("serve", "status", "--json")

    def by_files(role: str, *words: str) -> str:
        mounted = tmp_path / role
        mounted.mkdir(exist_ok=True)
        given = _variables(secrets / f"database-{role}.env") | _variables(secrets / "keys.env")
        for name, variable in FILES.items():
            (mounted / name).unlink(missing_ok=True)
            (mounted / name).write_text(given[variable])
            (mounted / name).chmod(0o440)
        (mounted / "radera.toml").write_text(_on_files(settings.read_text(), mounted))
        account = environment(PGUSER=given["PGUSER"])
        return run(RADERA, *words, "--config", str(mounted / "radera.toml"), cwd=tmp_path, env=account)

    by_files("mailbox", "db", "current")
    assert "[]\n" == by_files("serve", "status", "--json")

    file = tmp_path / "mailbox" / "database-password"
    url = database.set(username="radera_mailbox").render_as_string()
    engine = open_engine(url, password=SecretRef(file=file))
    with connect(database) as connection:
        connection.execute("ALTER ROLE radera_mailbox PASSWORD 'another'")
    with pytest.raises(ServerAway, match="password"):
        _use(engine)
    file.chmod(0o600)
    file.write_text("another\n")
    _use(engine)
    file.unlink()
    with pytest.raises(NoPassword, match="cannot read the secret file"):
        _use(engine)
    engine.dispose()


def _grant(server: LocalServer, owner: dict[str, str], mounted: Path) -> None:
    """What the Job does, by its own command: psql, with the password from a file."""
    mounted.mkdir()
    (mounted / "database-password").write_text(owner["PGPASSWORD"])
    (job,) = documents((KUBERNETES / "base" / "database-upgrade.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    command = [
        word.replace("/run/secrets/radera", str(mounted)).replace("/grants/", f"{KUBERNETES}/base/")
        for word in container["command"] + container["args"]
    ]
    there = {"PGHOST": str(server.url.host), "PGPORT": str(server.url.port), "PGDATABASE": "radera"}
    path = f"{server.programs}{os.pathsep}{os.environ['PATH']}"
    run(*command, env=environment(PATH=path, PGUSER=owner["PGUSER"], **there))


def _on_files(text: str, mounted: Path) -> str:
    """The settings, with the keys and the password where Kubernetes' example has them."""
    (example,) = re.findall(r"(?ms)^password = \{ file = .*?^digest = .*?$", EXAMPLE.read_text())
    return re.sub(r"(?m)^url = .*$", lambda url: f"{url[0]}\n{example}", text, count=1).replace(
        "/run/secrets/radera", str(mounted)
    )


def _use(engine: Engine) -> None:
    """On a connection of its own."""
    engine.dispose()
    with engine.connect() as connection:
        connection.execute(select(1))


def _variables(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())
