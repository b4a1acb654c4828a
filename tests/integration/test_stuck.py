"""A bus whose client's call does not come back: the process ends by itself, and says why, while it hangs."""

import subprocess
import sys
from pathlib import Path

from tests.integration.installation import SETTINGS, write_settings
from tests.integration.ports import free_port
from tests.integration.processes import environment

# Nobody listens there, and nobody is asked: the client hangs before.
_KAFKA = """
[kafka]
servers = ["127.0.0.1:9"]
security = "none"
"""
# The role is real. The library's call waits for ever, and every wait of ours is short.
_ROLE = """
import sys, threading
from pathlib import Path
from orchestrator.bus import kafka, kafka_subscription, kafka_watch
from orchestrator.cli import up
from orchestrator.cli.roles import Roles

def hangs(*_):
    print("hangs", flush=True)
    threading.Event().wait()

up._await_claim = lambda *_: None  # the orchestrator has been there
kafka.made = hangs
kafka_subscription._SILENCE = kafka_subscription._STORE_LIMIT = kafka_subscription._SLICE = 0.1
kafka_watch.Watch.__init__.__defaults__ = (0.1,)
Roles.stop.__defaults__ = (0.2,)
sys.exit(up.run(Path(sys.argv[1]), ("mailbox",)))
"""


def test_a_call_that_hangs_ends_the_process(tmp_path: Path) -> None:
    """With exit code 1, so that a supervisor starts it again: nothing but a new process helps. The thread
    that hangs does not hold up the end.
    """
    file = write_settings(tmp_path, SETTINGS + _KAFKA, ("port = 8089", f"port = {free_port()}"))

    role = [sys.executable, "-c", _ROLE, str(file)]
    ended = subprocess.run(role, capture_output=True, text=True, timeout=30, check=False, env=environment())

    assert (1, "hangs\n") == (ended.returncode, ended.stdout)
    assert "radera: The bus does not answer any more" in ended.stderr
    assert "Traceback" not in ended.stderr
