"""A request's way through the server: place, body, samples, engine, answers."""

import os
from asyncio import get_running_loop
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from fastapi import Request

from exeunt.engine import Engine
from exeunt.engine.admission import Ticket
from exeunt.engine.exit_policy import CompiledPolicy
from exeunt.engine.reading import PreparedSample
from exeunt.server.bodies import BodyReader
from exeunt.server.errors import InvalidRequest
from exeunt.server.leaving import Client
from exeunt.server.overrides import Overrides
from exeunt.server.parsing import check_media_type, parse_body
from exeunt.server.samples import named
from exeunt.server.settings import ServerSettings
from exeunt.server.streaming import TokenStream, check_streams
from exeunt.server.submission import Answers, Submission


class Predictor:
    """Answers `/predict` requests; belongs to one event loop, which it never blocks."""

    def __init__(self, engine: Engine, settings: ServerSettings) -> None:
        self._engine = engine
        self._timeout_s = settings.request_timeout_s
        self._bodies = BodyReader(settings.max_body_bytes, settings.max_buffered_bytes)
        self._overrides = Overrides(engine, settings.overrides)
        self._places = engine.config.max_queued_rows
        self._max_samples = min(settings.max_samples, self._places // engine.rows_per_sample)
        threads = settings.decode_threads or len(os.sched_getaffinity(0))
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="exeunt-decode")

    async def respond(self, request: Request, client: Client) -> Answers | TokenStream:
        """Return the answers of a request's samples, or the stream of the only one's tokens.

        A place is reserved before the body is read, and the places of a list's other samples before
        any of them is decoded. When the client leaves or the time is up, everything that is under
        way for it is given up; a stream that is returned has to be closed by its reader.

        Raises:
            ExeuntError: what went wrong; the request fails as a whole.
        """
        headers = request.headers
        content_type = headers.get("content-type", "")
        kind = check_media_type(content_type, headers.get("content-encoding", ""))
        self._bodies.check_length(headers.get("content-length"))
        deadline_s = get_running_loop().time() + self._timeout_s
        with self._engine.reserve() as place:
            async with self._bodies.hold(request, deadline_s) as body:
                submission = Submission(place, body, kind, content_type, deadline_s)
                work = submission.outcome(self._admit, self._decoders)
                try:
                    return await client.unless_left(work, deadline_s)
                except BaseException:
                    submission.abandon()
                    raise

    def _admit(self, submission: Submission) -> None:
        """Parse, decode and submit, in a decoding thread."""
        body, kind, content_type = submission.body, submission.kind, submission.content_type
        parsed = parse_body(body.content, kind, content_type, self._max_samples)
        submission.is_list = parsed.is_list
        samples = parsed.samples
        policies = []
        for place, sample in enumerate(samples):
            with named(place, len(samples)):
                policies.append(self._overrides.policy(sample))
        more = (len(samples) - 1) * self._engine.rows_per_sample
        with ExitStack() as leaving:
            others = leaving.enter_context(self._engine.reserve(more)) if more else submission.place
            prepared = []
            for place, sample in enumerate(samples):
                if submission.abandoned:
                    return
                with named(place, len(samples)):
                    prepared.append(self._engine.read(sample.inputs))
            if samples[0].stream:  # of a list it has been refused
                check_streams(prepared[0])
                submission.stream = TokenStream(prepared[0], submission.loop, submission.deadline_s)
            self._check_places(prepared)
            self._send(submission, prepared, policies, others)

    def _check_places(self, prepared: Sequence[PreparedSample]) -> None:
        """Refuse hypotheses that would not fit into an empty queue either."""
        rows = sum(self._engine.rows_per_sample * sample.asked.width for sample in prepared)
        if rows > self._places:
            raise InvalidRequest(
                f"the samples' hypotheses need {rows} places, and there are {self._places}: send"
                " fewer samples, or ask for fewer beams"
            )

    def _send(
        self,
        submission: Submission,
        prepared: Sequence[PreparedSample],
        policies: Sequence[CompiledPolicy | None],
        others: Ticket,
    ) -> None:
        """Hand the samples, known to be good, to the engine."""
        stream = submission.stream
        try:
            # The places of all hypotheses before the first sample enters.
            self._engine.widen(submission.place, prepared[0])
            self._engine.widen(others, *prepared[1:])
            for place, (sample, policy) in enumerate(zip(prepared, policies, strict=True)):
                ticket = submission.place if place == 0 else others
                told = None if stream is None else stream.on_token
                pending = self._engine.send(ticket, sample, policy, told)
                if stream is not None:
                    stream.attach(pending)
                submission.add(pending)
        except BaseException:
            submission.place.release()
            raise
