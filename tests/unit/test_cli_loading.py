"""A command loads what it needs and no more, so that it starts soon."""

import subprocess
import sys


def loaded(program: str) -> set[str]:
    """The packages that a Python has loaded after a program, and whether it collects garbage."""
    told = "; import gc, sys; print(*{one.partition('.')[0] for one in sys.modules}, f'gc={gc.isenabled()}')"
    return set(subprocess.check_output([sys.executable, "-c", program + told], text=True).split())


def test_what_says_its_version_loads_no_database() -> None:
    """The errors that a command may end with are loaded with what raises them."""
    seen = loaded("import orchestrator.cli.main")
    assert "orchestrator" in seen
    assert set() == seen & {"cryptography", "httpx", "pydantic", "sqlalchemy", "starlette"}


def test_a_role_loads_nothing_to_show_itself_with() -> None:
    """What httpx has for its own command line stays away, and the garbage collector is on again."""
    seen = loaded(
        "from orchestrator.cli.loading import loading\nwith loading(): import orchestrator.cli.up\npass"
    )
    assert {"httpx", "starlette", "gc=True"} <= seen
    assert set() == seen & {"pygments", "rich"}
