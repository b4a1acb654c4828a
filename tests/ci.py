"""What it means that the tests run under CI, and what becomes there of a test that can't run.

`CI` is set, and to something else than 0 or false: so it is said everywhere, and asked nowhere else.
"""

import os
from typing import NoReturn

import pytest


def under_ci() -> bool:
    """Whether what can't be tried is a failure, and chances are the same each time."""
    return os.environ.get("CI", "").strip().lower() not in ("", "0", "false")


def cannot_run(reason: str) -> NoReturn:
    """Skips the test, visibly. Under CI it fails: what isn't tried there would pass for what was."""
    if under_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
