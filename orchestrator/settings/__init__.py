"""What an installation is told about itself: one TOML file, overridden by the environment."""

from orchestrator.settings.loading import ConfigError, load
from orchestrator.settings.reference import reference
from orchestrator.settings.sections import (
    HOLDS_NOTHING,
    Database,
    Dpo,
    Http,
    Installation,
    Kafka,
    Keys,
    Log,
    Notices,
    Retention,
    Retry,
    Settings,
    Smtp,
    System,
    Waits,
    Worker,
    is_loopback,
    micros,
)

__all__ = [
    "HOLDS_NOTHING",
    "ConfigError",
    "Database",
    "Dpo",
    "Http",
    "Installation",
    "Kafka",
    "Keys",
    "Log",
    "Notices",
    "Retention",
    "Retry",
    "Settings",
    "Smtp",
    "System",
    "Waits",
    "Worker",
    "is_loopback",
    "load",
    "micros",
    "reference",
]
