"""Whether all that a door has accepted is there at the end. Judged by the list that those outside keep, by
the mails, and by what lay on the bus; the database is asked nothing.
"""

import re

from schemas import topics
from schemas.messages import Confirmation
from tests.simulation import installation
from tests.simulation.doors import Thanked
from tests.simulation.history import read
from tests.simulation.violations import expect
from tests.simulation.world import World

_NAMED = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def check_doors(world: World) -> None:
    """Each request that was accepted was told of to the officer, and each answer had its effect or is asked
    about.
    """
    mails = [mail for mail in world.mails if mail.recipient == installation.DPO]
    told = {found for mail in mails for found in _NAMED.findall(str(mail.message["Subject"]))}
    for request_id in world.accepted.requests:
        expect(request_id in told, "door", "nobody was told anything of a request that a door has accepted")
    heard = {
        Thanked(one.request_id, one.system, one.order)
        for one in read(world, topics.CONFIRMATIONS, Confirmation)
        if one.request_id is not None and one.system is not None and one.order is not None
    }
    missing = set(world.accepted.answers) - heard
    expect(not missing, "door", f"{len(missing)} answers that were thanked for had no effect")
