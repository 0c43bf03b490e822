"""Reading: from what a caller sends to a sample that the engine can take."""

from collections.abc import Mapping
from dataclasses import dataclass

from exeunt.engine.backends.base import Array
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.decoding.door import GenerationDoor
from exeunt.engine.decoding.options import OPTIONS, Asked
from exeunt.engine.errors import InputError
from exeunt.engine.inputs.limits import InputLimits
from exeunt.engine.inputs.prepare import SamplePreparer
from exeunt.engine.inputs.tensors import TensorChecker
from exeunt.engine.lanes.plan import Plan, TaskPlan


@dataclass(frozen=True)
class PreparedSample:
    """One sample, known to be good.

    tensors: raw, without a sample axis. borrowed: whether the caller may write to them.
    """

    task: TaskPlan
    tensors: dict[str, Array]
    asked: Asked
    borrowed: bool = False


class Reader:
    """Checks, decodes and tokenises samples; safe to call from many threads at once.

    door: reads how texts are generated.
    """

    def __init__(
        self, bundle: Bundle, plan: Plan, limits: InputLimits, door: GenerationDoor
    ) -> None:
        self._tasks = plan.tasks
        self._door = door
        self._checker = TensorChecker(bundle.manifest)
        self._prepare = SamplePreparer(bundle, limits)

    def sample(self, sample: Mapping[str, object]) -> PreparedSample:
        """Return a sample of images and texts; see `Engine.submit`.

        Raises:
            InputError: it cannot be used.
        """
        if not isinstance(sample, Mapping):
            raise InputError(f"a sample is a mapping, found a {type(sample).__name__}")
        task = self.task(sample.get("task"))
        asked = self._door.asked({key: sample[key] for key in OPTIONS if key in sample}, task)
        tensors = self._prepare(self._door.prompted(sample, task))
        return PreparedSample(task, self._checker.sample(tensors), asked)

    def tensors(
        self,
        tensors: Mapping[str, object],
        task: str | None,
        generation: Mapping[str, object] | None,
    ) -> PreparedSample:
        """Return one sample of raw tensors.

        Raises:
            InputError: a tensor, the task or an option is wrong.
        """
        arrays, chosen = self._checker.sample(tensors), self.task(task)
        asked = self._door.asked(generation or {}, chosen)
        return PreparedSample(chosen, arrays, asked, borrowed=True)

    def batch(
        self,
        tensors: Mapping[str, object],
        task: str | None,
        generation: Mapping[str, object] | None = None,
    ) -> list[PreparedSample]:
        """Return the samples of raw tensors with a leading sample axis.

        Raises:
            InputError: a tensor, the task or an option is wrong.
        """
        chosen = self.task(task)
        count, arrays = self._checker.batch(tensors)
        asked = self._door.asked(generation or {}, chosen)
        return [
            PreparedSample(
                chosen, {name: a[place] for name, a in arrays.items()}, asked, borrowed=True
            )
            for place in range(count)
        ]

    def task(self, name: object) -> TaskPlan:
        """Return a task by its name, or the only one for None.

        Raises:
            InputError: there is none of that name.
        """
        if name is None and len(self._tasks) == 1:
            return next(iter(self._tasks.values()))
        if not isinstance(name, str) or name not in self._tasks:
            raise InputError(
                f"task {str(name)[:80]!r} is not one of the bundle's: name one of"
                f" {sorted(self._tasks)}"
            )
        return self._tasks[name]
