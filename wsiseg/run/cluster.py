"""Process slides on Dask workers, on this machine or on a cluster (https://distributed.dask.org).

The scheduler is sent a entry and the plan, some kB, and gets a few facts back. It has one entry for each thread of its
workers: when a worker dies, Dask blames all that was with it, so nothing may wait there behind a slide that kills it. A
worker that dies costs its slide's unfinished rows; a scheduler that is gone is waited for, and then asked again for
whatever has not been answered. A slide that was finished meanwhile is found finished.
"""

from __future__ import annotations

import importlib.util
import logging
import queue
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from wsiseg.data.slides import SlideEntry
from wsiseg.errors import EngineError, SchedulerError
from wsiseg.extras import require_extra
from wsiseg.run.one_slide import process
from wsiseg.run.plan import Facts, Plan, Tell
from wsiseg.run.processes import given_up, throttled

LOCAL = "local"
CONNECT_S = 30.0  # for the first connection to a scheduler
RECONNECT_S = 300.0  # for a scheduler that was there and is gone
EVERY_S = 5.0  # between two messages about one slide's tiles
COUNT_S = 1.0  # between two looks at how many workers there are
ALONE_S = 15.0  # without a single worker, until that is told
# The scheduler itself tries a slide on another worker when one dies, three times; only then is it told of here.
ROUNDS = 2


def on_dask(
    entries: Iterable[SlideEntry], plan: Plan, tell: Tell, *, scheduler: str = LOCAL, workers: int = 1
) -> Iterator[Facts]:
    """Process entries on Dask; yields facts in the order in which slides are finished.

    Args:
        entries, plan: see `wsiseg.run.plan`
        tell: told of tiles, of lost workers, and {"event": "dashboard", "url"}
        scheduler: its address, a scheduler file (.json), or "local" for workers of this machine
        workers: how many of these

    Raises:
        MissingExtraError: Dask is not installed
        SchedulerError: the scheduler cannot be reached
        EngineError: the plan wants a GPU, and no worker has declared one
    """
    with ExitStack() as stack:
        target: Any = _local(plan, workers, stack) if scheduler == LOCAL else scheduler
        yield from _Conversation(target, plan, tell, stack).run(deque(entries))


class _Conversation:
    """The slides that the scheduler has not answered yet."""

    def __init__(self, target: Any, plan: Plan, tell: Tell, stack: ExitStack) -> None:
        self.target, self.plan, self.tell, self.stack = target, plan, tell, stack
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.asked: dict[str, tuple[Any, SlideEntry]] = {}  # key -> (future, entry)
        self.lost: Counter[str] = Counter()
        self.count = 0
        self.threads, self.counted = 0, float("-inf")  # of all workers; when they were counted
        self.seen, self.alone = time.monotonic(), False  # when there last was a worker; whether it was told
        self.client = self._connect(CONNECT_S)
        bare = not isinstance(target, str) and importlib.util.find_spec("bokeh") is None  # others' is not to be seen
        self.tell({"event": "dashboard", "url": self.client.dashboard_link, "missing": "bokeh" if bare else ""})

    def run(self, waiting: deque[SlideEntry]) -> Iterator[Facts]:
        while waiting or self.asked:
            if self.client.status == "closed":
                self.tell({"event": "scheduler lost", "seconds": RECONNECT_S})
                waiting.extendleft(entry for _, entry in self.asked.values())
                self.asked.clear()
                self.client = self._connect(RECONNECT_S)
            if self.client.status == "running":
                self._ask(waiting)
            try:
                future = self.answers.get(timeout=0.5)
            except queue.Empty:
                continue
            if future.key in self.asked:  # else an answer of a scheduler that was given up
                yield from self._answer(future, waiting)

    def _ask(self, waiting: deque[SlideEntry]) -> None:
        """Give the scheduler as much as keeps its workers busy."""
        from distributed.comm.core import CommClosedError

        try:
            if time.monotonic() - self.counted > COUNT_S:
                self.threads, self.counted = sum(self.client.nthreads().values()), time.monotonic()
                self._look(self.threads)
            while waiting and len(self.asked) < max(1, self.threads):
                self.count += 1
                entry = waiting.popleft()
                future = self.client.submit(
                    _remote, entry, self.plan, _topic(self.client), pure=False,
                    key=f"wsiseg-{entry.name}-{self.count}-{self.client.id}",
                    resources={"GPU": 1} if self.plan.wants_gpu else None,
                )  # fmt: skip
                self.asked[future.key] = future, entry
                future.add_done_callback(self.answers.put)
        except (CommClosedError, OSError) as error:  # it is seen at the next look at the client's status
            self.tell({"event": "connection lost", "why": str(error)})

    def _look(self, threads: int) -> None:
        """Report, once, that there has been no worker for a while."""
        now = time.monotonic()
        if threads:
            self.seen, self.alone = now, False
        elif not self.alone and now - self.seen > ALONE_S:
            self.alone = True
            self.tell({"event": "no workers", "seconds": ALONE_S})

    def _answer(self, future: Any, waiting: deque[SlideEntry]) -> Iterator[Facts]:
        _, entry = self.asked.pop(future.key)
        if future.status == "finished":
            try:
                yield future.result(timeout=60)
                return
            except Exception as error:  # of the connection: `process` itself raises nothing
                why, blame = f"its answer did not arrive, {type(error).__name__}", True
        elif future.status == "error":
            cause = future.exception()
            why, blame = f"{type(cause).__name__}: {str(cause)[:200]}", True
        else:
            why, blame = "the connection to the scheduler was cut", False
            self._listen()  # it may be another scheduler, or one that has forgotten
        self.lost[entry.name] += blame
        self.tell({"event": "lost", "name": entry.name, "attempt": self.lost[entry.name], "why": why})
        if self.lost[entry.name] < ROUNDS:
            waiting.appendleft(entry)
        else:
            yield given_up(entry, why, ROUNDS)

    def _connect(self, patience: float) -> Any:
        """A client; it is closed with the stack."""
        from distributed import Client

        until = time.monotonic() + patience
        where = {"scheduler_file": self.target} if _is_file(self.target) else {"address": self.target}
        while True:
            try:
                if _is_file(self.target) and not Path(self.target).exists():  # Dask would wait for it for ever
                    raise FileNotFoundError("the file does not exist")
                client = Client(**where, timeout=min(10.0, patience), set_as_default=False)
                break
            except (OSError, ValueError) as error:
                if time.monotonic() > until:
                    raise SchedulerError(
                        f"The scheduler {self.target} cannot be reached ({error}): check that it runs, and run the "
                        "same command again; finished slides are kept."
                    ) from error
                time.sleep(1.0)
        self.stack.callback(client.close, timeout=5)
        self._check_resources(client)
        self._listen(client)
        return client

    def _listen(self, client: Any = None) -> None:
        """Receive progress messages."""
        client = client or self.client
        client.subscribe_topic(_topic(client), lambda event: self.tell(event[1]))

    def _check_resources(self, client: Any) -> None:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        if self.plan.wants_gpu and workers and not any(w.get("resources", {}).get("GPU") for w in workers):
            raise EngineError(
                f"No worker of {self.target} has declared a GPU: start them with `dask worker … --resources GPU=1`."
            )


def _topic(client: Any) -> str:
    """The topic of the workers' messages about tiles to this client."""
    return f"wsiseg-{client.id}"


def _is_file(target: Any) -> bool:
    return isinstance(target, str) and Path(target).suffix == ".json"


def _local(plan: Plan, workers: int, stack: ExitStack) -> Any:
    """A scheduler in this process, and workers in processes of their own, each with one thread."""
    from distributed import LocalCluster

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Port .* is already in use")  # the address that it then takes is told
        # Workers that end with the cluster complain of heartbeats that nobody answers; real losses are told here.
        return stack.enter_context(
            LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1",
                dashboard_address="127.0.0.1:8787", memory_limit=plan.max_ram or "auto", silence_logs=logging.CRITICAL,
                resources={"GPU": 1} if plan.wants_gpu else None,
            )
        )  # fmt: skip


def check_dask() -> None:
    """MissingExtraError if Dask is not installed."""
    require_extra("distributed", "Dask", otherwise="use --executor processes")


def _remote(entry: SlideEntry, plan: Plan, topic: str) -> Facts:
    """`process` on a worker; progress is sent through the scheduler, one small message now and then."""
    from distributed import get_worker

    worker = get_worker()
    return process(entry, plan, throttled(lambda event: worker.log_event(topic, event), EVERY_S))
