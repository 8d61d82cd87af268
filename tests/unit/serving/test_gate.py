"""Who may compute, and who waits."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from resight.serving.gate import Gate
from resight.serving.problems import Refused


def alone(coroutine):
    """What a coroutine gives in a loop of its own: browser tests leave one behind in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def test_a_client_with_one_request_does_not_wait_for_all_of_another():
    async def run():
        gate, order = Gate(1, 100, 100), []
        held = await gate.acquire("x")

        async def ask(client):
            async with gate.enter(client):
                order.append(client)

        tasks = [asyncio.create_task(ask("many")) for _ in range(5)]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(ask("one")), asyncio.create_task(ask("two"))]
        await asyncio.sleep(0)
        gate.release(held)
        await asyncio.gather(*tasks)
        return order, gate

    order, gate = alone(run())
    assert order == ["many", "one", "two", "many", "many", "many", "many"]
    assert (gate.busy, gate.queued) == (0, 0)


@pytest.mark.parametrize(("waiting", "each", "said"), [(2, 9, "2 requests"), (9, 2, "2 of them yours")])
def test_too_many_are_refused_and_told_when_to_come_back(waiting, each, said):
    async def run():
        gate = Gate(1, waiting, each)
        held = await gate.acquire("x")
        tasks = [asyncio.create_task(gate.acquire("a")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await gate.acquire("a")
        gate.release(held)
        gate.release(await tasks[0])
        gate.release(await tasks[1])
        return refused.value, gate

    error, gate = alone(run())
    assert error.status_code == 429
    assert int(error.headers["Retry-After"]) >= 1
    assert said in error.detail
    assert gate.busy == 0


def limits(gate, client):
    return re.fullmatch(r'"search";r=(\d+);t=(\d+)', gate.limits(client)["RateLimit"]).groups()


def test_limits_say_how_many_more_requests_are_taken():
    """As many as they say are taken indeed, and the next one is refused, with limits that say so."""

    async def run():
        gate = Gate(2, waiting=5, waiting_each=3)
        gate.seconds = 1.0
        policy = gate.limits("a")["RateLimit-Policy"]
        told, held = [limits(gate, "a")], [await gate.acquire("a"), await gate.acquire("a")]
        tasks = []
        for _ in range(3):
            told.append(limits(gate, "a"))
            tasks.append(asyncio.create_task(gate.acquire("a")))
            await asyncio.sleep(0)
        told.append(limits(gate, "a"))
        with pytest.raises(Refused) as refused:
            await gate.acquire("a")
        others = limits(gate, "b")
        gate.seconds = 20.0  # of which nobody has the patience to wait for one
        impatient = limits(gate, "b")
        for started in held:
            gate.release(started)
        for task in tasks:
            gate.release(await task)
        return policy, told, others, impatient, refused.value

    policy, told, others, impatient, error = alone(run())
    assert policy == '"search";q=5;qu="concurrent-requests"'
    assert told == [("5", "0"), ("3", "1"), ("2", "1"), ("1", "2"), ("0", "2")]
    assert others == ("2", "2")
    assert impatient[0] == "0"
    assert error.headers["RateLimit"] == '"search";r=0;t=2'


def test_nobody_waits_longer_than_computations_of_late_let_expect():
    async def run():
        gate = Gate(2, 99, 99, patience=5)
        held = [await gate.acquire("x"), await gate.acquire("x")]
        gate.seconds = 4.0
        waiting = [asyncio.create_task(gate.acquire("a")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await gate.acquire("b")  # the third would wait 3 * 4 s / 2
        for started in held:
            gate.release(started)
        for task in waiting:
            gate.release(await task)
        return refused.value

    assert alone(run()).headers["Retry-After"] == "6"


def test_clients_that_leave_while_they_wait_give_their_turn_to_others():
    async def run():
        gate = Gate(1, 9, 9)
        held = await gate.acquire("x")
        leaving = [asyncio.create_task(gate.acquire("a")) for _ in range(3)]
        staying = asyncio.create_task(gate.acquire("b"))
        await asyncio.sleep(0)
        leaving[0].cancel()
        await asyncio.sleep(0)
        gate.release(held)  # the place is given to one who leaves in the same moment
        leaving[1].cancel()
        leaving[2].cancel()
        gate.release(await asyncio.wait_for(staying, 5))
        await asyncio.gather(*leaving, return_exceptions=True)
        return gate

    gate = alone(run())
    assert (gate.busy, gate.queued) == (0, 0)
