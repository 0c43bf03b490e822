"""Per-request overrides of criterion and threshold, where the configuration allows them."""

from threading import Lock

from pydantic import ValidationError

from exeunt.engine import Engine
from exeunt.engine.exit_policy import CompiledPolicy, ExitPolicy, LaneRules
from exeunt.engine.validation import first_problem
from exeunt.server.errors import InvalidRequest, OverrideRefused
from exeunt.server.samples import Sample
from exeunt.server.settings import OverrideSettings

MAX_KEPT = 256


class Overrides:
    """Turns a sample's `criterion` and `threshold` into a policy for its answering lane.

    Compiled policies are kept, because requests judged by the same one share the work of judging.
    """

    def __init__(self, engine: Engine, allowed: OverrideSettings) -> None:
        self._engine = engine
        self._allowed = allowed
        self._kept: dict[tuple[object, ...], CompiledPolicy] = {}
        self._base: ExitPolicy | None = None
        self._lock = Lock()

    def policy(self, sample: Sample) -> CompiledPolicy | None:
        """Return the policy to judge this sample by; None for the engine's.

        Raises:
            OverrideRefused: the configuration does not allow it.
            InvalidRequest, ExitPolicyError: it does not fit the model or the policy in force.
        """
        if sample.criterion is None and sample.threshold is None:
            return None
        self._check_allowed(sample)
        base = self._engine.policy
        key = (sample.task, sample.criterion, sample.threshold)
        with self._lock:
            if base is not self._base:
                self._base, self._kept = base, {}
            found = self._kept.get(key)
        if found is None:
            found = self._engine.compile(self._overridden(base, sample))
            with self._lock:
                if len(self._kept) >= MAX_KEPT:
                    self._kept.clear()
                if base is self._base:
                    self._kept[key] = found
        return found

    def _check_allowed(self, sample: Sample) -> None:
        allowed = self._allowed.criteria
        if sample.criterion is not None and sample.criterion not in allowed:
            raise OverrideRefused(
                f"criterion {sample.criterion!r} may not be asked for here; allowed:"
                f" {', '.join(allowed) or 'none'}; see `server.overrides.criteria`"
            )
        if sample.threshold is not None and not self._allowed.thresholds:
            raise OverrideRefused(
                "a threshold may not be set here: see `server.overrides.thresholds`"
            )

    def _overridden(self, base: ExitPolicy, sample: Sample) -> ExitPolicy:
        task, lane = self._answering(sample.task)
        lanes = dict(base.tasks.get(task, base.tasks.get("default", {})))
        rules = lanes.get(lane)
        lanes[lane] = self._rules(rules, sample)
        return ExitPolicy(version=base.version, tasks={**base.tasks, task: lanes})

    def _answering(self, task: str | None) -> tuple[str, str]:
        tasks = {spec.name: spec.lane for spec in self._engine.manifest.tasks}
        if task is None and len(tasks) == 1:
            return next(iter(tasks.items()))
        if task not in tasks:
            raise InvalidRequest(f"field 'task' must name one of {sorted(tasks)}")
        return task, tasks[task]

    @staticmethod
    def _rules(rules: LaneRules | None, sample: Sample) -> LaneRules:
        specs = (rules.any or rules.all) if rules else ()
        same = [spec for spec in specs if sample.criterion in (None, spec.criterion)]
        rule: dict[str, object]
        if len(same) == 1:  # its options, and what is not overridden, stay
            rule = same[0].model_dump(exclude_unset=True)
        elif sample.criterion is None:
            raise InvalidRequest(
                f"the exit policy has {len(specs)} rules here: name the criterion of the threshold"
            )
        else:
            rule = {"criterion": sample.criterion}
        if sample.threshold is not None:
            rule["threshold"] = sample.threshold
        try:
            fill = {"fill": rules.fill} if rules and "fill" in rules.model_fields_set else {}
            return LaneRules.model_validate({"any": [rule], **fill})
        except ValidationError as error:
            _, problem = first_problem(error)
            raise InvalidRequest(f"the override does not work: {problem}") from None
