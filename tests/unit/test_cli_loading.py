"""A command loads what it needs and no more, so that it starts soon."""

import gc
import subprocess
import sys

from orchestrator.cli.loading import loading


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


def test_a_look_at_a_request_loads_nothing_to_carry_one_out_with() -> None:
    """Nor the dialects of a database that it doesn't use. Else it takes half as long again to start."""
    program = (
        "import orchestrator.cli.status; import sys; print('sqlalchemy.dialects.postgresql' in sys.modules)"
    )
    seen = loaded(program)
    assert {"sqlalchemy", "False"} <= seen
    assert set() == seen & {"holidays", "phonenumbers", "prometheus_client", "starlette", "uvicorn"}


def test_a_handler_is_loaded_when_its_kind_is_configured() -> None:
    """Every command reads the settings, and most installations have few of the kinds."""
    program = (
        "from handlers.registry import settings_models; settings_models()['hubspot']; import sys\n"
        "print(*(one for one in ('hubspot', 'superoffice', 'tenant') if f'handlers.{one}' in sys.modules))\n"
        "pass"
    )
    assert {"hubspot"} == loaded(program) & {"hubspot", "superoffice", "tenant"}


def test_what_was_loaded_is_not_looked_through_for_garbage() -> None:
    """It stays to the end: to look through it, then above all, takes a third of a short command's time."""
    program = (
        "import gc; from orchestrator.cli.loading import loading\n"
        "with loading(): import orchestrator.cli.status\n"
        "print(len(gc.get_objects()), gc.get_freeze_count())"
    )
    left = subprocess.check_output([sys.executable, "-c", program], text=True)
    watched, loaded_for_good = map(int, left.split())
    assert watched < loaded_for_good / 100


def test_where_nothing_is_loaded_nothing_is_kept() -> None:
    """A command within another program leaves that program's objects to the collector."""
    with loading():
        pass  # the first time may load
    before = gc.get_freeze_count()
    with loading():
        theirs: list[object] = [[]]
    assert before == gc.get_freeze_count()
    assert gc.is_tracked(theirs)
