"""The options of `exeunt simulate`; what they default to is said in brackets."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

Bundle = Annotated[
    Path | None,
    Argument(help="The bundle to measure costs on; the embedded one without it."),
]
Hidden = Annotated[
    int | None,
    Option(help="Measure on the synthetic model uniter-base of this width, in place of a bundle."),
]
Task = Annotated[str | None, Option(help="Which task, where the bundle has several.")]
Costs = Annotated[Path | None, Option(help="Read the costs here; measure nothing.")]
SaveCosts = Annotated[Path | None, Option(help="Write the measured costs here, as JSON.")]
MeasureSeconds = Annotated[
    float, Option(help="Of each of the two closed loops in which costs are measured.", min=0.05)
]
Exits = Annotated[str, Option(help="uniform, bimodal, last, rho:X, or recorded:FILE.")]
InFlight = Annotated[int | None, Option(help="Requests under way in a closed loop. (64)")]
Rate = Annotated[float | None, Option(help="Requests/s of an open loop.")]
Arrivals = Annotated[str | None, Option(help="poisson, gamma, constant or trace:FILE. (poisson)")]
Burstiness = Annotated[
    float | None, Option(help="Of gamma: 1 is Poisson, below 1 comes in bursts. (1)")
]
Speed = Annotated[float | None, Option(help="How much faster than in its file a trace runs. (1)")]
Seconds = Annotated[
    float | None,
    Option(help="The window of each run. (60 simulated, 20 measured; a trace's whole length)"),
]
WarmUp = Annotated[float | None, Option(help="Seconds of each run before its window. (1)")]
Repeats = Annotated[
    int | None, Option(help="Runs, each with its own draw of arrivals and samples. (3)")
]
Seed = Annotated[int | None, Option(help="Of arrivals, exits and their order. (0)")]
MaxBatchRows = Annotated[int | None, Option(help="Rows of a batch at most. (32)")]
MinBatchRows = Annotated[
    int | None,
    Option(help="Rows that are worth a batch before a deeper, smaller one. (from the costs)"),
]
MaxWaitS = Annotated[
    float | None, Option(help="Rows that wait longer for a layer go first. (from the costs)")
]
LatencyTargetS = Annotated[
    float | None, Option(help="Every request's deadline, and what goodput counts up to. (none)")
]
MaxQueuedRows = Annotated[
    int | None, Option(help="Rows admitted at once; others are refused. (1024)")
]
MaxResidentRows = Annotated[
    int | None, Option(help="Of those, rows that have entered their lanes. (eight batches)")
]
Backend = Annotated[str | None, Option(help="What runs the segments. (onnxruntime)")]
Precision = Annotated[str | None, Option(help="fp32, or bf16 under openvino. (fp32)")]
Threads = Annotated[int | None, Option(help="Compute threads; 0: one a core. (0)")]
Streams = Annotated[int | None, Option(help="Batches that run at once. (1)")]
Against = Annotated[
    bool,
    Option(
        "--against-measurement",
        help="Run the real engine under the same arrivals and exits, and compare.",
    ),
]
Trace = Annotated[Path | None, Option(help="Write what the first run did, for ui.perfetto.dev.")]
Json = Annotated[bool, Option("--json", help="Print the report as JSON.")]
