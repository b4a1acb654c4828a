"""What is kept of a vendor's webhook besides its body."""

from tests.unit.test_intake import World


def test_a_signature_comes_with_the_time_that_it_is_over() -> None:
    """HubSpot signs the time of sending, too; without it no signature of its would hold."""
    world = World()
    sent = {"X-HubSpot-Signature-v3": "s", "X-HubSpot-Request-Timestamp": "1788220800000", "X-Other": "no"}
    assert 202 == world.client.post("/callbacks/superoffice", content=b"[]", headers=sent).status_code

    ((_, _, content),) = world.callbacks()
    assert {"x-hubspot-signature-v3": "s", "x-hubspot-request-timestamp": "1788220800000"} == content[
        "headers"
    ]
