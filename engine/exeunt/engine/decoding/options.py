"""How a text is generated: what a request may ask for, checked at the door."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError

from exeunt.engine.bundle.tensors import Frozen
from exeunt.engine.errors import InputError
from exeunt.engine.validation import first_problem

if TYPE_CHECKING:
    from exeunt.engine.bundle.manifest import LoopSpec
    from exeunt.engine.decoding.allowed import AnswerTree

MAX_BEAMS = 32
MAX_ALLOWED = 4096
MAX_NGRAM = 16

Whole = Annotated[int, Field(strict=True)]


class GenerationOptions(Frozen):
    """What a request asks of a loop lane.

    beams: hypotheses that go on side by side; 1 is greedy. max_tokens: at most, the end token
    included; the loop's own number without it. min_tokens: before the end token; the loop's own
    without it. no_repeat_ngram: no so many tokens in a row appear twice; 0 allows everything.
    length_penalty: a finished hypothesis scores sum(log p) / length^penalty. allowed: the answers
    to choose from, as tokens without the end token; none generates freely.
    """

    beams: Annotated[Whole, Field(ge=1, le=MAX_BEAMS)] = 1
    max_tokens: Annotated[Whole, Field(ge=1)] | None = None
    min_tokens: Annotated[Whole, Field(ge=0)] | None = None
    no_repeat_ngram: Annotated[Whole, Field(ge=0, le=MAX_NGRAM)] = 0
    length_penalty: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 1.0
    allowed: tuple[tuple[Whole, ...], ...] = ()


GREEDY = GenerationOptions()


@dataclass(frozen=True)
class Asked:
    """How a request's text is generated.

    labels, tree: of the allowed answers, where there are some. width: hypotheses that may be live
    at once, each with a slot of its own.
    """

    options: GenerationOptions = GREEDY
    labels: tuple[str, ...] | None = None
    tree: "AnswerTree | None" = None
    width: int = 1


NOTHING_ASKED = Asked()
OPTIONS = frozenset(GenerationOptions.model_fields)


def generation_options(
    given: Mapping[str, object], loop: "LoopSpec", classes: int
) -> GenerationOptions:
    """Return checked options.

    Args:
        given: some of the options, `allowed` as tokens.
        loop: of the lane that answers.
        classes: tokens that its heads know.

    Raises:
        InputError: names the option that is wrong and what was expected.
    """
    if unknown := sorted(set(given) - OPTIONS):
        raise InputError(
            f"unknown generation options {unknown}: expected some of {sorted(OPTIONS)}"
        )
    if "allowed" in given and (others := sorted(set(given) - {"allowed", "beams"})):
        raise InputError(f"{others}: allowed answers are scored as they are: leave these out")
    try:
        options = GenerationOptions.model_validate(dict(given))
    except ValidationError as error:
        where, what = first_problem(error)
        raise InputError(f"{where or 'generation options'}: {what}") from None
    if options.max_tokens is not None and options.max_tokens > loop.max_steps:
        raise InputError(
            f"max_tokens is {options.max_tokens}, but the model's caches hold {loop.max_steps}"
            f" tokens: ask for {loop.max_steps} at most"
        )
    most = options.max_tokens or loop.max_steps
    least = loop.min_tokens if options.min_tokens is None else options.min_tokens
    if least >= most:
        raise InputError(
            f"min_tokens is {least}, but of {most} tokens at most the end token takes one: ask for"
            f" {most - 1} at most"
        )
    if "allowed" in given:
        _check_allowed(options, loop, classes)
    return options


def _check_allowed(options: GenerationOptions, loop: "LoopSpec", classes: int) -> None:
    allowed = options.allowed
    if not allowed:
        raise InputError("allowed: the list is empty: name the answers, or leave it out")
    if len(allowed) > MAX_ALLOWED:
        raise InputError(f"allowed: {len(allowed)} answers, at most {MAX_ALLOWED} can be scored")
    if options.beams != 1:
        raise InputError("beams: allowed answers are all scored, without a search: leave it out")
    if len(set(allowed)) < len(allowed):
        raise InputError("allowed: two answers have the same tokens in this model: name each once")
    for place, tokens in enumerate(allowed):
        if not tokens:
            raise InputError(f"allowed: answer {place} has no tokens")
        if len(tokens) >= loop.max_steps:
            raise InputError(
                f"allowed: answer {place} has {len(tokens)} tokens, and the model's caches hold"
                f" {loop.max_steps}, the end token included"
            )
        if wrong := [token for token in tokens if not 0 <= token < classes or token == loop.eos]:
            raise InputError(
                f"allowed: answer {place} holds the token {wrong[0]}: expected one from 0 to"
                f" {classes - 1}, and not the end token"
            )
