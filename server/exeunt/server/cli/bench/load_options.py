"""The options of `exeunt bench load`; what they default to is said in brackets."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

Bundle = Annotated[Path | None, Argument(help="A bundle's directory; the embedded one without it.")]
Data = Annotated[
    str | None,
    Option(help="demo, demo-calibration, or a JSONL file of image, text, label. (demo)"),
]
Exits = Annotated[
    str | None,
    Option(
        help="Serve the synthetic model uniter-base with exits drawn as uniform, bimodal, last,"
        " rho:X or recorded:FILE say, in place of a bundle."
    ),
]
Hidden = Annotated[int | None, Option(help="With --exits: the model's width. (768)")]
Samples = Annotated[
    int | None, Option(help="How many of the data's samples to send, in turns. (1000)")
]
Loop = Annotated[
    str | None,
    Option(
        help="closed: each answer sends the next request. open: requests come at scheduled times."
        " (open where a rate or a trace is given)"
    ),
]
InFlight = Annotated[int | None, Option(help="Requests under way in a closed loop. (64)")]
Rate = Annotated[
    str | None, Option(help="Requests/s, or `sweep`: shares of saturation, up to the knee.")
]
Shares = Annotated[
    str | None,
    Option(help="Of saturation, in a sweep, separated by commas. (.3,.5,.7,.8,.9,.95,1)"),
]
Arrivals = Annotated[str | None, Option(help="poisson, gamma, constant or trace:FILE. (poisson)")]
Burstiness = Annotated[
    float | None, Option(help="Of gamma: 1 is Poisson, below 1 comes in bursts. (1)")
]
Speed = Annotated[float | None, Option(help="How much faster than in its file a trace runs. (1)")]
Over = Annotated[
    str | None, Option(help="engine: in this process. http: a server of its own. (engine)")
]
Url = Annotated[
    str | None, Option(help="With --over http: a server that runs already, http://HOST:PORT.")
]
SloMs = Annotated[
    float | None, Option(help="Count goodput, and hold the knee's p99, to this latency.")
]
Seconds = Annotated[
    float | None, Option(help="The measured window of each run. (10; a trace's whole length)")
]
Repeats = Annotated[int | None, Option(help="Runs of each kind, in turns. (3)")]
WarmUp = Annotated[float | None, Option(help="Seconds of each run before its window. (1)")]
Policy = Annotated[
    str | None,
    Option(help="default: the exit policy in force. never: full depth. both. (both)"),
]
Backend = Annotated[str | None, Option(help="What runs the segments. (onnxruntime)")]
Threads = Annotated[int | None, Option(help="Compute threads; 0: one a core. (0)")]
Seed = Annotated[int | None, Option(help="Of arrivals and of the choice of samples. (0)")]
Out = Annotated[
    Path | None, Option(help="Write report.json, a PNG for each chart and report.html here.")
]
Json = Annotated[bool, Option("--json", help="Print the report as JSON.")]
