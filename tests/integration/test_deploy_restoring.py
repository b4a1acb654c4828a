"""What `deploy/restoring.md` says is what works: its commands are run here, in their order."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import URL, make_url

from orchestrator.store import Store, open_engine
from tests.contract.store_suite import saga
from tests.deploy.page import blocks, carried_out
from tests.integration.installation import PERSON, Installation, installed
from tests.integration.postgresql_server import connect, postgresql_server

__all__ = ["postgresql_server"]

PAGE = "restoring.md"
SETTINGS = """
[installation]
name = "Example"
domain = "radera.example.com"
public_url = "https://radera.example.com"

[dpo]
address = "dpo@example.com"

[smtp]
host = "mail.example.com"
sender = "radera@example.com"

[database]
url = "{url}"

[kafka]
servers = ["127.0.0.1:1"]
security = "none"

[systems.archive]
kind = "holds_nothing"
reason = "paper"
"""


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    (tmp_path / "etc/radera").mkdir(parents=True)
    (tmp_path / "backups").mkdir()
    with installed(tmp_path / "etc/radera", monkeypatch) as made:
        made.ground.generations.take()
        made.ground.installations.settle()
        yield made


def test_a_file_is_put_back(installation: Installation, tmp_path: Path) -> None:
    """What the backup knew is there and can be read; what came later is in the database that went aside."""
    early = installation.submit(("email", PERSON), verified=False)
    installation.settle()
    carried_out('sqlite3 /etc/radera/radera.db ".backup /backups/radera.db"', tmp_path)
    late = installation.submit(("email", f"late.{PERSON}"), verified=False)
    installation.settle()
    installation.ground.close()
    *lines, last = blocks(PAGE, "A file of SQLite")[0]
    for line in lines:
        carried_out(line, tmp_path)
    said = carried_out(last, tmp_path)
    assert early in said
    assert late not in said
    installation.restart()
    assert [early] == [one.request_id for one in installation.sagas()]
    assert installation.ground.keys.key_of(early)
    assert (tmp_path / "aside/radera.db").stat().st_size > 0


@pytest.fixture
def server(postgresql_server: URL) -> Iterator[URL]:
    """The page's own names for databases are taken and given back: tests of one run share a server."""
    with connect(postgresql_server) as holder:
        holder.execute("SELECT pg_advisory_lock(2)")
        try:
            yield postgresql_server
        finally:
            for name in ("radera", "radera_aside"):
                drop = SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name))
                holder.execute(drop)


def rights(url: URL) -> list[tuple[object, ...]]:
    """Who may do what: with the database, its schema, and its tables."""
    with connect(url) as connection:
        database = "SELECT datacl::text FROM pg_database WHERE datname = current_database()"
        schema = "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'"
        tables = (
            "SELECT relname::text, relowner::regrole::text, relacl::text FROM pg_class "
            "WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        )
        return [row for query in (database, schema, tables) for row in connection.execute(query).fetchall()]


def test_a_database_of_postgresql_is_put_back(server: URL, tmp_path: Path) -> None:
    """With all that it held, and every right as it was: nobody else may connect to it."""
    postgres = server.set(drivername="postgresql", database="postgres")
    more = {
        "PGHOST": server.host or "",
        "PGPORT": str(server.port),
        "PGUSER": server.username or "",
        "PGPASSWORD": server.password or os.environ.get("PGPASSWORD", ""),
    }
    (tmp_path / "etc/radera").mkdir(parents=True)
    (tmp_path / "backups").mkdir()
    for name in ("owner", "serve"):
        url = postgres.set(database="radera").update_query_dict({"options": f"-crole=radera_{name}"})
        text = SETTINGS.format(url=url.render_as_string(hide_password=False))
        (tmp_path / f"etc/radera/{name}.toml").write_text(text)
    making = [
        "createdb --encoding UTF8 --template template0 radera",
        "psql --set ON_ERROR_STOP=1 --file postgresql/roles.sql radera",
        "radera keys create --config /etc/radera/owner.toml",
        "radera db upgrade --config /etc/radera/owner.toml",
        "psql --set ON_ERROR_STOP=1 --file postgresql/grants.sql radera",
    ]
    for line in making:
        carried_out(_as_owner(line), tmp_path, **more)
    known = make_url(postgres.set(database="radera"))
    engine = open_engine(known.render_as_string(hide_password=False))
    with Store(engine).begin() as transaction:
        one = saga("3f1c2b9e-0000-4000-8000-000000000001")
        transaction.insert_missing_sagas([one.request_id])
        transaction.save([one])
    engine.dispose()
    before = rights(known)
    carried_out("pg_dump --format=custom --file=/backups/radera.dump radera", tmp_path, **more)

    administrator, others = blocks(PAGE, "PostgreSQL")
    for line in administrator:
        carried_out(line, tmp_path, **more)
    *lines, last = others
    for line in lines:
        carried_out(_as_owner(line), tmp_path, **more)
    said = carried_out(last, tmp_path, **more)

    assert one.request_id in said
    assert before == rights(known)


def _as_owner(line: str) -> str:
    """The test's server lets its administrator in alone: the owner's role is put on instead."""
    owner = 'psql --set ON_ERROR_STOP=1 --command "SET ROLE radera_owner" --file'
    return line.replace("psql --set ON_ERROR_STOP=1 --username radera_owner --file", owner).replace(
        "psql --set ON_ERROR_STOP=1 --file postgresql/grants.sql", f"{owner} postgresql/grants.sql"
    )
