"""What an installation is told about itself: one TOML file, overridden by the environment."""

from orchestrator.settings.kafka import Kafka, SchemaRegistry
from orchestrator.settings.loading import ConfigError, load
from orchestrator.settings.reference import reference
from orchestrator.settings.sections import (
    HOLDS_NOTHING,
    Database,
    Dpo,
    Http,
    Installation,
    Intake,
    Keys,
    Log,
    MutualTls,
    Notices,
    OpenDsr,
    Retention,
    Retry,
    Settings,
    Smtp,
    System,
    Waits,
    Worker,
    micros,
)
from orchestrator.settings.values import is_loopback

__all__ = [
    "HOLDS_NOTHING",
    "ConfigError",
    "Database",
    "Dpo",
    "Http",
    "Installation",
    "Intake",
    "Kafka",
    "Keys",
    "Log",
    "MutualTls",
    "Notices",
    "OpenDsr",
    "Retention",
    "Retry",
    "SchemaRegistry",
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
