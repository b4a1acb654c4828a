"""Suites that every adapter of a port passes."""

import pytest

# Not test modules by name, so pytest has to be told that their assertions explain themselves too.
pytest.register_assert_rewrite("tests.contract.bus_suite")
