"""The parts of the OpenAPI document that the framework cannot see: `/predict` reads its body."""

from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from exeunt.engine.exit_policy.format import Criteria
from exeunt.server.answers import AnswerBody, ErrorBody
from exeunt.server.errors import ERROR_TABLE
from exeunt.server.events import EVENTS
from exeunt.server.parsing import FORM, JSON
from exeunt.server.samples import SampleBody, SamplesBody
from exeunt.server.streaming import TokenBody

_REF = "#/components/schemas/{model}"
_SAMPLE = {"$ref": _REF.format(model="SampleBody")}
_ANSWER = {"$ref": _REF.format(model="AnswerBody")}

_FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": (
        "Repeat every field n times for n samples. `images` and `allowed` are repeated for one, and"
        " so is `regions` where nothing else is."
    ),
    "properties": {
        "image": {"type": "string", "format": "binary", "description": "An image file."},
        "regions": {
            "type": "string",
            "format": "binary",
            "description": "An .npz file of what a detector saw, in place of the image.",
        },
        "text": {"type": "string"},
        "task": {"type": "string"},
        "criterion": {"type": "string", "enum": list(get_args(Criteria))},
        "threshold": {"type": "number"},
        "beams": {"type": "integer"},
        "max_tokens": {"type": "integer"},
        "min_tokens": {"type": "integer"},
        "no_repeat_ngram": {"type": "integer"},
        "length_penalty": {"type": "number"},
        "allowed": {"type": "array", "items": {"type": "string"}},
        "stream": {"type": "boolean"},
    },
}

PREDICT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "oneOf": [
                        _SAMPLE,
                        {"$ref": _REF.format(model="SamplesBody")},
                        {"type": "array", "items": _SAMPLE, "minItems": 1},
                    ]
                }
            },
            FORM: {"schema": _FORM_SCHEMA},
        },
    }
}

_EVENTS_ARE = (
    "With `stream: true`: an event `token` (its data is a TokenBody) for each token, then one event"
    " `answer` (AnswerBody) or `error` (ErrorBody). Comments come while nothing else does."
)


def predict_responses() -> dict[int | str, dict[str, Any]]:
    """Return the documented responses of `/predict`, errors from the one table."""
    answers = {"oneOf": [_ANSWER, {"type": "array", "items": _ANSWER}]}
    responses: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "The answer; a list for a list of samples, in the same order.",
            "content": {
                JSON: {"schema": answers},
                EVENTS: {"schema": {"type": "string", "description": _EVENTS_ARE}},
            },
        }
    }
    for status in sorted({entry.status for entry in ERROR_TABLE.values()} - {404, 405, 499}):
        types = [name for name, entry in ERROR_TABLE.items() if entry.status == status]
        responses[status] = error_response(" or ".join(f"`{name}`" for name in types))
    return responses


def error_response(description: str) -> dict[str, Any]:
    """Return the documented response of an error."""
    schema = {"$ref": _REF.format(model="ErrorBody")}
    return {"description": description, "content": {JSON: {"schema": schema}}}


def add_models(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas of the bodies that the references name."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    models: tuple[tuple[type[BaseModel], JsonSchemaMode], ...] = (
        (SampleBody, "validation"),
        (SamplesBody, "validation"),
        (AnswerBody, "serialization"),
        (TokenBody, "serialization"),
        (ErrorBody, "serialization"),
    )
    for model, mode in models:
        schema = model.model_json_schema(ref_template=_REF, mode=mode)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    return document
