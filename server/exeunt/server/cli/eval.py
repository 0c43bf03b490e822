"""`exeunt eval`: accuracy, rho, exits by layer and the time saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="A bundle's directory, or demo or scenes, which are embedded."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="demo, demo-calibration, or a JSONL file of image, text, label, kind; of a bundle"
            " that generates scenes, scenes-calibration, or a JSONL file of image, task, text and"
            " label or references. The embedded bundle's test data without it."
        ),
    ] = None,
    exit_policy: Annotated[
        str | None,
        typer.Option(help="A YAML file, or `never` for full depth; the bundle's own without it."),
    ] = None,
    backend: Annotated[str, typer.Option(help="onnxruntime, openvino or torch.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 under openvino.")] = "fp32",
    threads: Annotated[int, typer.Option(help="Compute threads; 0: one a core.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Write the exit-layer histogram as a picture.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a bundle's accuracy, rho, exits by layer and the time saved.

    Every sample is also run to full depth, in turns, unless the policy is `never`. With another
    backend or precision than onnxruntime and fp32, the answers are also compared with those of full
    depth in fp32 under ONNX Runtime: the share of equal labels is the agreement.

    A bundle that generates is judged task by task: labels by accuracy, texts by BLEU-4 and CIDEr,
    and what its lanes and tokens save by MuE's expected time reduction (Eq. 14).

    Examples:
        exeunt eval

        exeunt eval scenes --json

        exeunt eval my-bundle --data my-test-set.jsonl --exit-policy thresholds.yaml

        exeunt eval --exit-policy never --json

        exeunt eval --backend openvino --precision bf16
    """
    from rich.console import Console
    from rich.progress import Progress

    from exeunt.bench.evaluation import EvalReport, judge, open_reference
    from exeunt.engine import Engine, load_exit_policy
    from exeunt.engine.errors import ConfigError

    policy = load_exit_policy(exit_policy) if exit_policy else None
    errors = Console(stderr=True)
    config = {"backend": backend, "precision": precision, "threads": threads}
    with (
        # Samples of one image would share what its lane costs.
        Engine.open(bundle, {**config, "state_cache_bytes": 0}) as engine,
        open_reference(bundle, engine.config) as reference,
        Progress(console=errors, transient=True) as bar,
    ):

        def counting(samples: int) -> Callable[[int], None]:
            task = bar.add_task("evaluating", total=samples)
            return lambda done: bar.advance(task, done)

        report = judge(engine, policy or engine.policy, data, reference, counting)
    if plot:
        from exeunt.bench.evaluation.plot import plot_exits

        if not isinstance(report, EvalReport):
            raise ConfigError("--plot draws the exits of one lane: leave it out, or use --json")
        plot_exits(report, plot)
    if as_json:
        import json

        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        Console().print(report.as_table())
