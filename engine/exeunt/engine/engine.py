"""The engine: opens a bundle and answers samples, each at the layer where it is sure."""

import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from exeunt.engine.admission import Admission, Ticket
from exeunt.engine.answer import Answer
from exeunt.engine.backends.base import Array, Backend
from exeunt.engine.backends.registry import open_backend
from exeunt.engine.bundle.manifest import Manifest
from exeunt.engine.bundle.reader import Bundle, default_bundle
from exeunt.engine.capacity import check_memory, check_threads
from exeunt.engine.config import EngineConfig, engine_config
from exeunt.engine.decoding.decoding import OnToken
from exeunt.engine.determinism import refuse_batch_dependent
from exeunt.engine.exit_policy import ExitPolicy, compile_policy, never
from exeunt.engine.exit_policy.compiled import CompiledPolicy
from exeunt.engine.exit_policy.load import parse_exit_policy
from exeunt.engine.lanes.request import Request
from exeunt.engine.parts import make_parts
from exeunt.engine.pending import Pending
from exeunt.engine.probe import LaneProbe, probe_lane, run_propagate
from exeunt.engine.reading import PreparedSample
from exeunt.engine.scheduling import Costs
from exeunt.engine.scheduling.opening import open_scheduler
from exeunt.engine.start_up import StartUp
from exeunt.engine.stats import EngineStats
from exeunt.engine.step.executor import Executor
from exeunt.engine.step.routing import Router
from exeunt.engine.trace import Trace
from exeunt.engine.worker import Worker


class Engine:
    """Serves one bundle. Open it with `Engine.open`, close it with `close` or `with`.

    Every method may be called from any thread. Example::

        with Engine.open("my-bundle", {"threads": 2}) as engine:
            answer = engine.predict({"image": png_bytes, "text": "what shape is in the image?"})
            print(answer.label, answer.exit_layer, answer.depth)
    """

    def __init__(self, bundle: Bundle, config: EngineConfig, backend: Backend) -> None:
        if config.deterministic:
            refuse_batch_dependent(bundle.manifest)
        self.bundle = bundle
        self.config = config
        self.stats = EngineStats()
        self._backend = backend
        parts = make_parts(bundle, config, backend)
        self.layouts, self.state_cache = parts.layouts, parts.state_cache
        self._plan, self._blank, self._reader = parts.plan, parts.blank, parts.reader
        self._slabs, self._residents = parts.slabs, parts.residents
        self._policy = self.compile(config.exit_policy or self._recommended())
        self._admission = Admission(config.max_queued_rows)
        self._numbers = itertools.count(1)
        self.costs: Costs | None = None
        if config.warm_up and self._blank:
            start_up = StartUp(self._plan, self._slabs, parts.streams, self._policy)
            self.costs = start_up.measure(self._blank, config, backend)
        resident = self._residents.capacity
        check_memory(self.slot_bytes, resident, self._plan.rows)
        scheduler = open_scheduler(config, self.costs, self._plan.lanes, resident * self._plan.rows)
        executors = [Executor(runners, time.monotonic) for runners in parts.streams]
        router = Router(self._slabs, self._residents, self.stats, self.state_cache)
        self._worker = Worker(scheduler, executors, router, self.stats, self._self_check)

    @classmethod
    def open(
        cls,
        bundle: str | Path | Bundle | None = None,
        config: EngineConfig | Mapping[str, object] | None = None,
        *,
        backend: Backend | None = None,
    ) -> "Engine":
        """Open a bundle, load its segments, warm them up and start the engine's thread.

        Args:
            bundle: a bundle's directory; the embedded one when None.
            config: settings, or a mapping of them.
            backend: an opened backend in place of `config.backend` (tests; another device).

        Raises:
            BundleError: the bundle is damaged, incomplete or newer.
            ConfigError: a setting is wrong or contradicts the process's first engine.
        """
        settings = engine_config(config)
        check_threads(settings)
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle or default_bundle())
        used = backend or open_backend(
            settings.backend, settings.compute_threads, settings.precision, settings.streams
        )
        try:
            return cls(opened, settings, used)
        except BaseException:
            used.close()
            raise

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def policy(self) -> ExitPolicy:
        """The exit policy under which requests are admitted now."""
        return self._policy.policy

    @property
    def ready(self) -> bool:
        """Whether the engine is warm, its thread runs and no segment is known to fail."""
        return self._worker.healthy

    @property
    def alive(self) -> bool:
        """Whether the engine's thread has not died; only a new process mends one that has."""
        return self._worker.dead is None

    @property
    def queued_rows(self) -> int:
        """Rows that have a place now."""
        return self._admission.taken

    @property
    def resident_requests(self) -> int:
        """Requests that have entered their lanes."""
        return self._residents.count

    @property
    def used_slots(self) -> int:
        """Slots of the slabs that are taken, over all lanes."""
        return self._slabs.used_slots()

    @property
    def slot_bytes(self) -> int:
        """Bytes of one request's states at the largest shapes seen so far."""
        return self._slabs.slot_bytes()

    @property
    def rows_per_sample(self) -> int:
        """Rows to reserve for a sample."""
        return self._plan.rows

    def waiting_rows(self) -> dict[tuple[str, int], int]:
        """Return the rows that wait, by lane and by layers already done."""
        rows: dict[tuple[str, int], int] = {}
        for (index, stage), count in self._worker.scheduler.waiting_rows().items():
            lane = self._plan.lanes[index]
            key = (lane.name, max(0, stage - lane.first_layer))
            rows[key] = rows.get(key, 0) + count
        if outside := self._worker.waiting:
            for lane in self._plan.lanes:
                if not lane.spec.join:
                    key = (lane.name, 0)
                    rows[key] = rows.get(key, 0) + outside * lane.spec.rows
        return rows

    def start_trace(self) -> Trace:
        """Record every batch from now on; the returned trace grows until `stop_trace`."""
        trace = Trace()
        self._worker.trace = trace
        return trace

    def stop_trace(self) -> None:
        """Stop recording."""
        self._worker.trace = None

    def compile(self, policy: ExitPolicy) -> CompiledPolicy:
        """Return the policy laid out for this bundle; raises ExitPolicyError when it cannot be."""
        return compile_policy(policy, self.bundle.manifest)

    def replace_exit_policy(self, policy: ExitPolicy) -> None:
        """Judge requests admitted from now on by another policy; those under way keep theirs.

        Raises:
            ExitPolicyError: it does not fit the bundle; the old one stays.
        """
        self._policy = self.compile(policy)

    def reserve(self, rows: int | None = None) -> Ticket:
        """Reserve places, before anything costly is done for a request.

        Args:
            rows: `rows_per_sample` for each sample; one sample's when None.

        Raises:
            QueueFull: too few places are left.
            EngineStopped: the engine is closed or dead.
        """
        if self._worker.closed:
            raise self._worker.stopped()
        return self._admission.reserve(self._plan.rows if rows is None else rows)

    def submit(
        self,
        ticket: Ticket,
        sample: Mapping[str, object],
        exit_policy: CompiledPolicy | None = None,
        on_token: OnToken | None = None,
    ) -> Pending:
        """Decode and tokenise a sample in this thread and hand it to the engine.

        Args:
            ticket: of `reserve`; its place is given back when the future ends.
            sample: `image`, `images`, `text`, `task`, as the manifest's `inputs` ask; of a task
                that generates, also `GenerationOptions`, with `allowed` as texts.
            exit_policy: in place of the engine's, from `compile`.
            on_token: called with each token and its exit as soon as it is chosen, from the engine's
                threads, all of which may wait meanwhile; not of beams and allowed answers.

        Returns:
            The answer's future; cancelling it takes the sample out within one step.

        Raises:
            InputError: the sample cannot be used; the ticket is untouched.
            QueueFull: its hypotheses need more places than are left.
        """
        read = self.read(sample)
        self.widen(ticket, read)
        return self.send(ticket, read, exit_policy, on_token)

    def read(self, sample: Mapping[str, object]) -> PreparedSample:
        """Check, decode and tokenise a sample for `send`; see `submit`."""
        return self._reader.sample(sample)

    def widen(self, ticket: Ticket, *samples: PreparedSample) -> None:
        """Reserve what the further hypotheses of samples need that have a place for one each.

        Raises:
            QueueFull: too few places are left; the ticket stays as it is.
        """
        more = self._plan.rows * sum(sample.asked.width - 1 for sample in samples)
        if more:
            ticket.grow(more)

    def send(
        self,
        ticket: Ticket,
        sample: PreparedSample,
        exit_policy: CompiledPolicy | None = None,
        on_token: OnToken | None = None,
    ) -> Pending:
        """Hand a sample that `read` has prepared to the engine; see `submit`.

        Args:
            ticket: with places for all hypotheses of the sample; see `widen`.
            sample: as read.
            exit_policy: in place of the engine's.
            on_token: see `submit`.

        Raises:
            QueueFull: the ticket has too few places left.
        """
        rows = self._plan.rows * sample.asked.width
        tensors = sample.tensors
        if sample.borrowed:
            tensors = self.state_cache.owned(sample.task.lanes, tensors)
        shapes = tuple(tensors[name].shape for name in self.bundle.manifest.tensors)
        future = Pending(ticket.take(rows))
        now_s = time.monotonic()
        policy = exit_policy or self._policy
        request = Request(sample.task, tensors, shapes, policy, future, now_s)
        request.number = next(self._numbers)
        request.asked, request.on_token = sample.asked, on_token
        request.digests = self.state_cache.digests(sample.task.lanes, tensors)
        if self.config.latency_target_s is not None:
            request.deadline_s = now_s + self.config.latency_target_s
        self._worker.submit(request)
        return future

    def submit_tensors(
        self,
        ticket: Ticket,
        tensors: Mapping[str, object],
        task: str | None = None,
        exit_policy: CompiledPolicy | None = None,
        generation: Mapping[str, object] | None = None,
        on_token: OnToken | None = None,
    ) -> Pending:
        """Hand one sample's raw tensors (no sample axis) to the engine; see `submit`.

        Args:
            ticket: of `reserve`.
            tensors: by name.
            task: which one, where the bundle has several.
            exit_policy: in place of the engine's.
            generation: some of `GenerationOptions`, with `allowed` as texts or tokens.
            on_token: see `submit`.

        Raises:
            TensorError: names, dtypes or shapes are not the manifest's.
            InputError: an option is wrong.
        """
        sample = self._reader.tensors(tensors, task, generation)
        self.widen(ticket, sample)
        return self.send(ticket, sample, exit_policy, on_token)

    def predict(self, sample: Mapping[str, object]) -> Answer:
        """Answer one sample; see `submit` for what it holds."""
        with self.reserve() as ticket:
            return self.submit(ticket, sample).result()

    def run(
        self,
        tensors: Mapping[str, object],
        task: str | None = None,
        generation: Mapping[str, object] | None = None,
    ) -> list[Answer]:
        """Serve raw tensors, named as in the manifest, with exits.

        Args:
            tensors: by name, each with a leading sample axis.
            task: which one, where the bundle has several.
            generation: of all samples; see `submit_tensors`.

        Raises:
            TensorError: names, dtypes or shapes are not the manifest's.
            QueueFull: more samples than there are places.
        """
        samples = self._reader.batch(tensors, task, generation)
        with self.reserve(sum(self._plan.rows * s.asked.width for s in samples)) as ticket:
            pending = [self.send(ticket, sample) for sample in samples]
            return [future.result() for future in pending]

    def probe(self, tensors: Mapping[str, object], task: str | None = None) -> dict[str, LaneProbe]:
        """Run raw tensors to full depth, in this thread, and return what each lane computed.

        A loop lane is walked for its first step. Takes no place in the queue.

        Args:
            tensors: by name, each with a leading sample axis; all samples share one batch.
            task: which one, where the bundle has several.

        Raises:
            TensorError: names, dtypes or shapes are not the manifest's.
        """
        full = self.compile(never())
        requests = [
            Request(sample.task, sample.tensors, (), full, Pending(), 0.0)
            for sample in self._reader.batch(tensors, task)
        ]
        return {lane.name: probe_lane(requests, lane) for lane in requests[0].task.lanes}

    def prepare(self, sample: Mapping[str, object]) -> dict[str, Array]:
        """Return one sample's raw tensors (no sample axis), as `submit_tensors` takes them."""
        return self.read(sample).tensors

    def close(self) -> None:
        """Stop the thread; requests that are left fail. Closing twice is harmless."""
        self._worker.close()
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _recommended(self) -> ExitPolicy:
        own = self.bundle.manifest.exit_policy
        return never() if own is None else parse_exit_policy(own, "the bundle's manifest")

    def _self_check(self) -> None:
        """Run every segment once; a bundle whose sizes are not known has no sample to run."""
        if self._blank:
            tensors = {name: array[np.newaxis] for name, array in self._blank[-1].items()}
            for task in self._plan.tasks:
                self.probe(tensors, task)
        for lane in self._plan.lanes:
            run_propagate(lane)
