"""What a request asks of a generating task, read and checked before it takes a slot."""

from collections.abc import Callable, Mapping, Sequence

from tokenizers import Tokenizer

from exeunt.engine.bundle.manifest import TaskSpec
from exeunt.engine.bundle.reader import Bundle
from exeunt.engine.decoding.allowed import AnswerTree
from exeunt.engine.decoding.options import (
    NOTHING_ASKED,
    OPTIONS,
    Asked,
    GenerationOptions,
    generation_options,
)
from exeunt.engine.errors import ConfigError, InputError, TextError
from exeunt.engine.inputs.limits import InputLimits
from exeunt.engine.inputs.text import check_text, open_tokenizer
from exeunt.engine.lanes.plan import TaskPlan

TEXT = "{text}"


class GenerationDoor:
    """Reads generation options and prompts; safe to call from many threads.

    most: slots that one request may hold.

    Raises:
        ConfigError: a task's own answers need more.
    """

    def __init__(self, bundle: Bundle, limits: InputLimits, most: int) -> None:
        text = bundle.manifest.inputs.text
        self._tokenizer: Tokenizer | None = (
            open_tokenizer(bundle.path(text.tokenizer)) if text is not None else None
        )
        self._limits = limits
        self._most = most
        self._own = {task.name: _own_answers(bundle, task) for task in bundle.manifest.tasks}
        for name, asked in self._own.items():
            if asked.width > most:
                raise ConfigError(
                    f"task {name!r} scores its answers with {asked.width} hypotheses at once, and"
                    f" {most} rows may be under way: set max_resident_rows to {asked.width} or more"
                )

    @property
    def detokenise(self) -> Callable[[Sequence[int]], str] | None:
        """Turns tokens into a text; None in a bundle without a tokenizer."""
        tokenizer = self._tokenizer
        if tokenizer is None:
            return None
        return lambda tokens: str(tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def prompted(self, sample: Mapping[str, object], task: TaskPlan) -> dict[str, object]:
        """Return the sample with the task's prompt as its text, and without what is read here.

        Raises:
            InputError: the prompt takes no text, and the sample brings one.
            TextError: the text cannot be used.
        """
        rest = {key: value for key, value in sample.items() if key not in OPTIONS}
        prompt = task.spec.prompt
        if prompt is None:
            return rest
        text = rest.get("text")
        if TEXT not in prompt:
            if text is not None:
                raise InputError(
                    f"task {task.spec.name!r} asks a question of its own: leave `text` out"
                )
            return {**rest, "text": prompt}
        if text is None:
            raise InputError(f"task {task.spec.name!r} needs `text`")
        return {**rest, "text": prompt.replace(TEXT, check_text(text, self._limits))}

    def asked(self, given: Mapping[str, object], task: TaskPlan) -> Asked:
        """Return what a request asks for.

        Args:
            given: options; `allowed` as texts, or as lists of tokens.
            task: that answers.

        Raises:
            InputError: an option is wrong, the task generates nothing, or too many slots are asked
                for.
        """
        lane = task.lane.spec
        wanted = {key: value for key, value in given.items() if value is not None}
        if lane.loop is None:
            if wanted:
                raise InputError(
                    f"{sorted(wanted)}: task {task.spec.name!r} generates no text: leave them out"
                )
            return NOTHING_ASKED
        if not wanted:
            return self._own[task.spec.name]
        assert lane.classes is not None, "a loop lane has heads"
        labels: tuple[str, ...] | None = None
        if "allowed" in wanted:
            wanted["allowed"], labels = self._allowed(wanted["allowed"], task)
        elif task.spec.answers:
            raise InputError(
                f"{sorted(wanted)}: task {task.spec.name!r} chooses among answers of its own: leave"
                " these out"
            )
        options = generation_options(wanted, lane.loop, lane.classes)
        tree = AnswerTree(options.allowed, lane.loop.eos) if options.allowed else None
        width = tree.width if tree else options.beams
        if width > self._most:
            raise InputError(
                f"{width} hypotheses at once were asked for, and this engine has room for"
                f" {self._most}: ask for fewer, or raise max_resident_rows"
            )
        return Asked(options, labels, tree, width)

    def _allowed(
        self, given: object, task: TaskPlan
    ) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...] | None]:
        if not isinstance(given, list | tuple):
            raise InputError("allowed: expected a list of answers")
        if all(isinstance(answer, list | tuple) for answer in given):
            return tuple(tuple(answer) for answer in given), None
        if self._tokenizer is None:
            raise InputError("allowed: this bundle has no tokenizer: give each answer's tokens")
        texts: list[str] = []
        for place, answer in enumerate(given):
            if isinstance(answer, str) and not answer.strip():
                raise InputError(f"allowed: answer {place} is empty: write it out")
            try:
                texts.append(check_text(answer, self._limits))
            except TextError as error:
                raise InputError(f"allowed: answer {place}: {error}") from None
        tokens = tuple(
            tuple(
                self._tokenizer.encode(
                    task.spec.answer.replace(TEXT, text), add_special_tokens=False
                ).ids
            )
            for text in texts
        )
        return tokens, tuple(texts)


def _own_answers(bundle: Bundle, task: TaskSpec) -> Asked:
    """Return what a request of a task asks for that names nothing."""
    loop = bundle.manifest.lane(task.lane).loop
    if loop is None or not task.answers:
        return NOTHING_ASKED
    tree = AnswerTree(task.answers, loop.eos)
    return Asked(GenerationOptions(allowed=task.answers), task.labels or None, tree, tree.width)
