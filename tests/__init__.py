"""The tests. `tests.simulation` can also be run by itself."""
