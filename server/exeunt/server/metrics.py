"""Prometheus metrics: read from the engine's own counters when they are scraped.

Nothing on a request's or a step's way knows of them.
"""

import platform
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from exeunt.engine import Engine
from exeunt.engine.stats import Histogram
from exeunt.server.service import Service

LAYER_EDGES = range(1, 49)


def new_registry(service: Service, errors: Counter[str]) -> CollectorRegistry:
    """Return a registry of its own with this server's and this process's metrics."""
    registry = CollectorRegistry()
    registry.register(ServerCollector(service, errors))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class ServerCollector(Collector):
    """Collects one server's metrics. errors: responses by error type."""

    def __init__(self, service: Service, errors: Counter[str]) -> None:
        self._service = service
        self._errors = errors

    def describe(self) -> list[Metric]:
        """Return nothing: the registry then takes the names on trust."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it stands now."""
        ready = GaugeMetricFamily("exeunt_ready", "Whether requests should come here (1) or not.")
        ready.add_metric([], 0 if self._service.not_ready() else 1)
        yield ready
        build = GaugeMetricFamily(
            "exeunt_build_info", "Always 1; the versions.", labels=["version", "python"]
        )
        build.add_metric([version("exeunt"), platform.python_version()], 1)
        yield build
        errors = CounterMetricFamily(
            "exeunt_errors", "Error responses by type, refusals included.", labels=["type"]
        )
        for kind, count in list(self._errors.items()):
            errors.add_metric([kind], count)
        yield errors
        if (engine := self._service.loaded) is not None:
            yield from _exits(engine)
            yield from _times(engine)
            yield _waiting(engine)
            yield _tokens(engine)
            yield from _state_cache(engine)


def _exits(engine: Engine) -> Iterator[Metric]:
    model = engine.manifest.name
    # A copy in one step, so that the engine's thread cannot interfere. Zeros first: Prometheus sees
    # no increase in a series that begins with its first exits.
    counted = dict.fromkeys(_possible_exits(engine), 0) | dict(engine.stats.exits)
    exits = CounterMetricFamily(
        "exeunt_exits",
        "Rows (in a decoder tokens) that left a lane after a layer, by what decided.",
        labels=["model", "lane", "layer", "criterion"],
    )
    layers: dict[str, Counter[int]] = defaultdict(Counter)
    for (name, layer, criterion), count in sorted(counted.items()):
        exits.add_metric([model, name, str(layer), criterion], count)
        layers[name][layer] += count
    yield exits
    histogram = HistogramMetricFamily(
        "exeunt_exit_layer",
        "Layer after which rows (in a decoder tokens) left a lane.",
        labels=["model", "lane"],
    )
    for lane in engine.manifest.lanes:
        counts = layers[lane.name]
        cumulative = [
            (str(float(edge)), sum(n for layer, n in counts.items() if layer <= edge))
            for edge in LAYER_EDGES
        ]
        cumulative.append(("+Inf", sum(counts.values())))
        total = sum(layer * n for layer, n in counts.items())
        histogram.add_metric([model, lane.name], cumulative, total)
    yield histogram
    for family_name, help_text, values in (
        ("exeunt_layers_run", "Layers that rows ran; over possible: rho.", engine.stats.layers_run),
        (
            "exeunt_layers_possible",
            "Layers that the same rows would have run at full depth.",
            engine.stats.layers_possible,
        ),
    ):
        family = CounterMetricFamily(family_name, help_text, labels=["model", "lane"])
        for lane in engine.manifest.lanes:
            family.add_metric([model, lane.name], values[lane.name])
        yield family


def _possible_exits(engine: Engine) -> Iterator[tuple[str, int, str]]:
    """Yield lane, layer and criterion of every exit that the policy in force can lead to."""
    for (_, lane), policy in engine.compile(engine.policy).lanes.items():
        depth = engine.manifest.lane(lane).depth
        yield lane, depth, "depth"
        for rule in policy.rules:
            yield from ((lane, layer, rule.name) for layer in range(rule.min_layer, depth + 1))


def _times(engine: Engine) -> Iterator[Metric]:
    model, stats = engine.manifest.name, engine.stats
    for name, help_text, histogram in (
        ("exeunt_request_seconds", "From submission to the engine to its end.", stats.request_s),
        ("exeunt_queue_seconds", "From submission to the first step.", stats.queue_s),
    ):
        family = HistogramMetricFamily(name, help_text, labels=["model"])
        _add(family, [model], histogram)
        yield family
    segments = HistogramMetricFamily(
        "exeunt_segment_seconds",
        "One batch through a segment, its exit head and criterion included.",
        labels=["model", "segment"],
    )
    for segment, seconds in sorted(dict(stats.segment_s).items()):
        _add(segments, [model, segment], seconds)
    yield segments
    rows = HistogramMetricFamily("exeunt_batch_rows", "Rows of a batch.", labels=["model", "lane"])
    for lane, counts in sorted(dict(stats.batch_rows).items()):
        _add(rows, [model, lane], counts)
    yield rows


def _waiting(engine: Engine) -> Metric:
    family = GaugeMetricFamily(
        "exeunt_lane_waiting_rows",
        "Rows that wait in a lane, by the layers they have done.",
        labels=["model", "lane", "layer"],
    )
    waiting = engine.waiting_rows()
    for lane in engine.manifest.lanes:
        for layer in range(max(1, lane.depth)):
            rows = waiting.get((lane.name, layer), 0)
            family.add_metric([engine.manifest.name, lane.name, str(layer)], rows)
    return family


def _tokens(engine: Engine) -> Metric:
    family = CounterMetricFamily(
        "exeunt_generated_tokens",
        "Steps of a lane that generates: one for each token, of every hypothesis.",
        labels=["model", "lane"],
    )
    exits = dict(engine.stats.exits)
    for lane in engine.manifest.lanes:
        if lane.loop is not None:
            steps = sum(count for (name, _, _), count in exits.items() if name == lane.name)
            family.add_metric([engine.manifest.name, lane.name], steps)
    return family


def _state_cache(engine: Engine) -> Iterator[Metric]:
    model, cache = engine.manifest.name, engine.state_cache
    for name, help_text, count in (
        ("hits", "Lanes that were not walked, as their result was kept.", cache.counts.hits),
        ("misses", "Lanes that were walked, and their result kept.", cache.counts.misses),
        ("waited", "Lanes whose result another request computed just then.", cache.counts.waited),
        ("evictions", "Results that made room for others.", cache.counts.evicted),
    ):
        counter = CounterMetricFamily(f"exeunt_state_cache_{name}", help_text, labels=["model"])
        counter.add_metric([model], count)
        yield counter
    for name, help_text, value in (
        ("bytes", "Bytes of the results that are kept.", cache.bytes),
        ("entries", "Results that are kept.", cache.entries),
    ):
        gauge = GaugeMetricFamily(f"exeunt_state_cache_{name}", help_text, labels=["model"])
        gauge.add_metric([model], value)
        yield gauge


def _add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    counts = list(histogram.counts)
    cumulative, so_far = [], 0
    for edge, count in zip(histogram.edges, counts, strict=False):
        so_far += count
        # Six digits name an edge well; the rest is the rounding of repeated products.
        cumulative.append((str(float(f"{edge:.6g}")), so_far))
    cumulative.append(("+Inf", sum(counts)))
    family.add_metric(labels, cumulative, histogram.total)
