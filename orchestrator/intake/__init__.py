"""Where requests, answers and callbacks come in."""

from orchestrator.intake.app import build_app, build_status_app
from orchestrator.intake.producer import Made, Producer
from orchestrator.intake.server import CannotListen, Server
from orchestrator.intake.submit import CannotSubmit, Intake

__all__ = [
    "CannotListen",
    "CannotSubmit",
    "Intake",
    "Made",
    "Producer",
    "Server",
    "build_app",
    "build_status_app",
]
