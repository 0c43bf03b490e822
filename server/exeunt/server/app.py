"""The HTTP application: its routes and what surrounds them."""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from exeunt.engine import Answer
from exeunt.server.answers import AnswerBody
from exeunt.server.events import EventResponse
from exeunt.server.info import InfoBody, info_of
from exeunt.server.leaving import Client
from exeunt.server.metrics import new_registry
from exeunt.server.middleware import RequestLog
from exeunt.server.openapi import PREDICT_BODY, add_models, error_response, predict_responses
from exeunt.server.predicting import Predictor
from exeunt.server.responses import ErrorResponses
from exeunt.server.service import Service
from exeunt.server.settings import ServerSettings
from exeunt.server.streaming import TokenStream


def create_app(service: Service, settings: ServerSettings | None = None) -> FastAPI:
    """Return the application that serves `service`'s engine, once it has one.

    Args:
        service: the engine's holder; every request asks it anew.
        settings: the caps and times; the defaults when None.
    """
    errors = ErrorResponses()
    app = FastAPI(
        title="Exeunt",
        version=version("exeunt"),
        description="Vision-language answers, each from the layer where it is sure.",
        redoc_url=None,
    )
    errors.install(app)
    app.add_middleware(RequestLog, service=service, errors=errors)
    _add_predict(app, service, settings or ServerSettings(), errors)
    _add_probes(app, service, errors)
    _add_reading(app, service, errors)
    _document(app)
    return app


def _add_predict(
    app: FastAPI, service: Service, settings: ServerSettings, errors: ErrorResponses
) -> None:
    predictor: Predictor | None = None

    @app.post(
        "/predict",
        response_model=None,
        responses=predict_responses(),
        openapi_extra=PREDICT_BODY,
        summary="Answer one sample, or a list of them",
    )
    async def predict(request: Request) -> Response:
        """Answer a question about an image, or judge a statement, as the model can.

        An image and a text come as JSON (base64) or as multipart/form-data (a file). A list of
        samples fails as a whole when one of them does; the error names which. With `stream: true`
        the tokens of a text come as server-sent events, as soon as each is chosen.
        """
        nonlocal predictor
        log: dict[str, Any] = request.scope["state"]["log"]
        engine = service.engine()
        if predictor is None:
            predictor = Predictor(engine, settings)
        invariant = engine.manifest.batch_invariant

        def to_json(answer: Answer) -> str:
            return AnswerBody.of(answer, batch_invariant=invariant).to_json()

        client = Client(request.receive)
        outcome = await predictor.respond(request, client)
        if isinstance(outcome, TokenStream):
            return EventResponse(outcome, client, to_json, errors, log)
        layers = [answer.exit_layer for answer in outcome.answers]
        log["exit_layer"] = layers if outcome.is_list else layers[0]
        texts = [to_json(answer) for answer in outcome.answers]
        content = f"[{','.join(texts)}]" if outcome.is_list else texts[0]
        return Response(content, media_type="application/json")


def _add_probes(app: FastAPI, service: Service, errors: ErrorResponses) -> None:
    @app.get("/healthz", response_model=None, responses={503: error_response("restart it")})
    async def healthz() -> Response:
        """Tell whether the process is sound; load and shutting down do not matter."""
        dead = service.not_live()
        return errors.of(dead) if dead else _ok("live")

    @app.get("/readyz", response_model=None, responses={503: error_response("not now")})
    async def readyz() -> Response:
        """Tell whether requests should come here: warm, sound and not shutting down."""
        reason = service.not_ready()
        return errors.of(reason) if reason else _ok("ready")


def _ok(status: str) -> Response:
    return Response(f'{{"status":"{status}"}}', media_type="application/json")


def _add_reading(app: FastAPI, service: Service, errors: ErrorResponses) -> None:
    registry = new_registry(service, errors.counts)

    @app.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Expose the metrics in Prometheus's text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/info", responses={503: error_response("`loading`")})
    async def info() -> InfoBody:
        """Describe the model that is served."""
        return info_of(service.engine())

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")


def _document(app: FastAPI) -> None:
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = add_models(build())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
