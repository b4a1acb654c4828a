"""What parties say is numbered when it is stored; a vendor's webhook is not."""

from tests.unit.test_intake import DAY, NOW, REQUEST, World, signed


def test_a_controller_may_call_back_as_often_as_it_likes() -> None:
    """Each word that is stored is one of its own, in the order of its number, also in the same body."""
    world = World()
    path = f"/callbacks/tenant/{world.token('byggab')}"
    for said in ("refuse", "erase", "refuse"):
        content = {"extensions": {"radera": {"instruction": said}}}
        assert 202 == world.client.post(path, json=content).status_code
    callbacks = [callback for _, callback, _ in world.callbacks()]

    assert 3 == len({callback.event_id for callback in callbacks})
    orders = [callback.order for callback in callbacks]
    assert [NOW + 1, NOW + 2, NOW + 3] == orders
    assert all(str(one.order) in one.event_id for one in callbacks)


def test_the_words_by_two_links_of_a_step_have_one_order() -> None:
    """A controller that was asked anew may still answer by its first address."""
    world = World()
    for attempt in (1, 2):
        token = world.links.make(REQUEST, "byggab", attempt, NOW + DAY)
        assert 202 == world.client.post(f"/callbacks/tenant/{token}", json={}).status_code
    assert [NOW + 1, NOW + 2] == [callback.order for _, callback, _ in world.callbacks()]


def test_an_agencys_answer_has_a_number_too() -> None:
    """It can answer once by each of its links, and the later answer counts."""
    world = World()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for expires_at in (NOW + DAY, NOW + 2 * DAY):
        path = f"/answer/{world.token('agency', expires_at)}"
        assert 200 == world.client.post(path, content="answer=erased", headers=form).status_code
    assert [NOW + 1, NOW + 2] == [callback.order for _, callback, _ in world.callbacks()]


def test_a_webhook_that_comes_twice_is_one_event() -> None:
    """A vendor tells of what happened at its own, and repeats itself; it is no party's word."""
    world = World()
    for body in (b"{}", b"{}", b"[]"):
        assert 202 == signed(world, body).status_code
    callbacks = [callback for _, callback, _ in world.callbacks()]
    assert callbacks[0].event_id == callbacks[1].event_id != callbacks[2].event_id
    assert [None, None, None] == [callback.order for callback in callbacks]
