"""What the tests of several adapters share."""

from tests.integration.postgresql_server import own_postgresql, postgresql_server, postgresql_url

__all__ = ["own_postgresql", "postgresql_server", "postgresql_url"]
