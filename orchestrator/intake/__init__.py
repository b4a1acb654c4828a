"""Where requests, answers and callbacks come in.

What another program needs to hand a request in is here. What serves HTTP is in `app` and `server`, which are
asked for by name, so that a command that serves nothing does not load a web server.
"""

from orchestrator.intake.producer import Made, Producer
from orchestrator.intake.submit import CannotSubmit, Intake

__all__ = ["CannotSubmit", "Intake", "Made", "Producer"]
