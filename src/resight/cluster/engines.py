"""Where shards are asked: in threads of this process, or by Ray actors on the machines of a cluster."""

from __future__ import annotations

import logging
import os
import re
import socket
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from resight.cluster.shard import Shard, ask
from resight.errors import CollectionError, ResightError, UsageError
from resight.extras import needed

Calls = Mapping[int, tuple[Any, ...]]  # number of a shard -> arguments
PROBE_SECONDS = 5.0
SECONDS = 120.0  # after which a shard that does not answer counts as gone
THREADS = "threads"
TOKEN = Path.home() / ".ray" / "auth_token"
RAY = re.compile(r"ray://(?P<address>[^/\s]+:\d+|local)")


class Engine(Protocol):
    """Asks shards. `absent`: the names of those that are gone, which are asked no more."""

    @property
    def absent(self) -> tuple[str, ...]: ...
    def ask(self, method: str, calls: Calls) -> dict[int, Any]:
        """What a method of each shard in `calls` gives, by number.

        Raises what the method raises, and `CollectionError` when a shard is gone and answers must be whole.
        """

    def every(self, method: str, *arguments: Any) -> list[Any]:
        """What a method of all shards that are there gives, in their order."""

    def close(self) -> None:
        """End what was started."""


class _Asked:
    """The shards that are there, and what happens when one is not."""

    def __init__(self, paths: Sequence[Path], partial: bool) -> None:
        self._paths, self._partial = list(paths), partial
        self._gone: set[int] = set()

    @property
    def absent(self) -> tuple[str, ...]:
        return tuple(str(self._paths[number]) for number in sorted(self._gone))

    @property
    def _there(self) -> list[int]:
        return [number for number in range(len(self._paths)) if number not in self._gone]

    def _lost(self, number: int, why: object) -> None:
        """A shard is gone. Raises `CollectionError` unless answers may be partial, or none is left."""
        if not self._partial:
            raise CollectionError(
                f"shard {self._paths[number]} cannot be asked ({why}): bring it back, or ask for answers of the other "
                "shards alone with --partial"
            )
        self._gone.add(number)
        if not self._there:
            raise CollectionError(f"no shard can be asked any more, the last one was {self._paths[number]} ({why})")


class Threads(_Asked):
    """Shards that are open in this process, one thread for each."""

    def __init__(self, paths: Sequence[Path], *, partial: bool = False) -> None:
        super().__init__(paths, partial)
        self._shards: dict[int, Shard] = {}
        for number, path in enumerate(paths):
            try:
                self._shards[number] = Shard(os.fspath(path), number)
            except CollectionError as error:
                self._lost(number, error)
        self._pool = ThreadPoolExecutor(max(len(self._shards), 1))

    def ask(self, method: str, calls: Calls) -> dict[int, Any]:
        """As `Engine.ask`."""
        started = {n: self._pool.submit(ask, self._shards[n], method, calls[n]) for n in calls if n in self._shards}
        return {number: future.result() for number, future in started.items()}

    def every(self, method: str, *arguments: Any) -> list[Any]:
        """As `Engine.every`."""
        return list(self.ask(method, dict.fromkeys(self._there, arguments)).values())

    def close(self) -> None:
        """Nothing was started beyond this process."""
        self._pool.shutdown()


class Ray(_Asked):
    """Shards that Ray actors hold, spread over the machines of a cluster; Ray starts one that died again.

    `address`: HOST:PORT of the cluster, or `local` for processes of this machine. `seconds`: after which a shard that
    does not answer counts as gone.
    """

    def __init__(self, paths: Sequence[Path], address: str, *, partial: bool = False, seconds: float = SECONDS) -> None:
        super().__init__(paths, partial)
        self._ray, self._seconds = connected(address), seconds
        actor = self._ray.remote(Shard)
        options = {"max_restarts": -1, "max_task_retries": -1, "num_cpus": 0.01, "scheduling_strategy": "SPREAD"}
        self._actors = {n: actor.options(**options).remote(os.fspath(path), n) for n, path in enumerate(paths)}

    def ask(self, method: str, calls: Calls) -> dict[int, Any]:
        """As `Engine.ask`."""
        started = {n: getattr(self._actors[n], method).remote(*calls[n]) for n in calls if n not in self._gone}
        found = {}
        for number, reference in started.items():
            try:
                found[number] = self._ray.get(reference, timeout=self._seconds)
            except self._ray.exceptions.GetTimeoutError:
                self._lost(number, f"no answer within {self._seconds:g} s")
            except self._ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ResightError):
                    raise error.cause from error
                raise
            except self._ray.exceptions.RayActorError as error:
                self._lost(number, _first_cause(error))
        return found

    def every(self, method: str, *arguments: Any) -> list[Any]:
        """As `Engine.every`."""
        shared = [self._ray.put(argument) for argument in arguments]  # sent to each machine once
        return list(self.ask(method, dict.fromkeys(self._there, tuple(shared))).values())

    def close(self) -> None:
        """End the actors; the cluster goes on."""
        for actor in self._actors.values():
            self._ray.kill(actor)


def connected(address: str) -> Any:
    """The package `ray`, connected to a cluster. Raises `UsageError` without the package, `CollectionError` when there
    is no cluster at the address."""
    if TOKEN.exists():  # a cluster that ray start made asks for it, and a driver sends it only when told so
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    with needed("a search on a Ray cluster"):
        import ray
    if ray.is_initialized():
        return ray
    host, _, port = address.rpartition(":")
    how: dict[str, Any] = {"address": address}
    if host.startswith("127."):
        how["_node_ip_address"] = host  # Ray would look for itself at another address of this machine
    try:
        if address != "local":
            socket.create_connection((host, int(port)), PROBE_SECONDS).close()  # Ray itself tries for minutes
        with warnings.catch_warnings():  # Lance warns of forks, and what Ray forks becomes another program at once
            warnings.filterwarnings("ignore", message="lance is not fork-safe")
            ray.init(**how, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        raise CollectionError(
            f"there is no Ray cluster at {address} ({str(error).splitlines()[0]}): start one with ray start --head, or "
            "leave the engine out to search in this process"
        ) from error
    return ray


def open_engine(name: str, paths: Sequence[Path], *, partial: bool = False) -> Engine:
    """The engine called `threads` or `ray://HOST:PORT`. Raises `UsageError` for another name."""
    if name == THREADS:
        return Threads(paths, partial=partial)
    found = RAY.fullmatch(name)
    if found is None:
        raise UsageError(f"engine {name!r}: shards are asked by threads, ray://local or ray://HOST:PORT")
    return Ray(paths, found["address"], partial=partial)


def _first_cause(error: BaseException) -> str:
    """One sentence of what Ray tells in a page: what resight raised in the actor, else its first line."""
    raised = re.findall(r"^resight\.errors\.\w+: (.+)$", str(error), re.MULTILINE)
    return str(raised[-1]) if raised else str(error).partition("\n")[0] or type(error).__name__
