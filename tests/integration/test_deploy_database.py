"""The way to the database that the manifests go, on a real PostgreSQL that asks for passwords."""

from pathlib import Path

from tests.deploy.tools import DEPLOY, run
from tests.integration.postgresql_server import LocalServer, connect, own_postgresql
from tests.integration.processes import RADERA, environment

__all__ = ["own_postgresql"]

PASSWORDS_ASKED = """\
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


def test_accounts_tables_and_grants_fit_together(own_postgresql: LocalServer, tmp_path: Path) -> None:
    """The accounts are made with the passwords that the roles will give, the owner makes the tables and the
    grants, and then each role gets in by variables alone: the settings name neither account nor password.
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
    owner = _variables(secrets / "database-owner.env")
    with connect(database.set(username=owner["PGUSER"], password=owner["PGPASSWORD"])) as connection:
        connection.execute((DEPLOY / "postgresql" / "grants.sql").read_bytes())

    for role in ("orchestrator", "worker", "mailbox", "serve"):
        radera(role, "db", "current")
    assert "[]\n" == radera("serve", "status", "--json")


def _variables(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())
