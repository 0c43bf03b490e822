"""The pictures and the page: drawn, escaped, and complete in one file."""

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from exeunt.bench.report import Chart, Mark, Series, Sheet
from exeunt.bench.report.page import report_page
from exeunt.bench.report.plots import DARK, LIGHT, draw
from tests.bench.reports import chart, report

NASTY = "<script>alert(1)</script> & \"'"
BARS = Chart(
    name="exits",
    title=r"Exits of $\nothing$",
    kind="bars",
    x_label="exit layer",
    y_label="share",
    share_y=True,
    series=(
        Series(name="default", x=("1", "2"), y=(0.7, 0.3)),
        Series(name="never", x=("1", "2"), y=(0.0, 1.0), low=(0.0, 0.9), high=(0.1, 1.0)),
    ),
)
MARKS = (Mark(axis="y", at=3.0, label="SLO $3"), Mark(axis="x", at=2.0, label="knee"))


@pytest.mark.parametrize(
    "drawn",
    [
        chart(),
        chart(log_x=True, log_y=True, marks=MARKS),
        chart(kind="curves", share_y=True),
        BARS,
    ],
)
def test_a_chart_is_drawn(drawn: Chart) -> None:
    with Image.open(io.BytesIO(draw(drawn, "png", LIGHT))) as picture:
        assert picture.size[0] > 1000
        colours = picture.convert("RGB").getcolors(1 << 24) or []
        assert len(colours) > 20
        assert max(colours)[1] == (255, 255, 255)
        painted = {colour for _, colour in colours}
        for wanted in LIGHT.series[:2]:
            assert tuple(bytes.fromhex(wanted[1:])) in painted
    assert b"<svg" in draw(drawn, "svg", DARK)


def test_equal_charts_make_equal_files() -> None:
    assert draw(chart(), "svg", LIGHT) == draw(chart(), "svg", LIGHT)
    assert draw(chart(), "png", LIGHT) == draw(chart(), "png", LIGHT)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"series": ()}, "at least 1 item"),
        ({"name": "../a"}, "pattern"),
        ({"series": (Series(name="a", x=("one",), y=(1.0,)),)}, "must be numbers"),
        ({"kind": "bars", "series": (*BARS.series, Series(name="c", x=("3",), y=(1.0,)))}, "same"),
    ],
)
def test_a_chart_that_cannot_be_drawn_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        chart(**wrong)


def test_a_series_needs_as_many_y_as_x() -> None:
    with pytest.raises(ValidationError, match="give one for each x"):
        Series(name="a", x=(1.0, 2.0), y=(1.0,))
    with pytest.raises(ValidationError, match="both `low` and `high`"):
        Series(name="a", x=(1.0,), y=(1.0,), low=(1.0,))


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _page(**changes: Any) -> _Elements:
    parsed = _Elements()
    parsed.feed(report_page(report(**changes)))
    return parsed


def test_the_page_loads_nothing() -> None:
    page = _page(charts=(chart(), BARS))
    links = [
        value
        for _, attributes in page.found
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "action", "data") and value is not None
    ]
    assert len(links) == 5  # an empty icon, and each chart in light and dark
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"url\(|@import|https?://", page.text)
    for link in links[1:]:
        picture = base64.b64decode(link.partition("base64,")[2])
        assert b"<svg" in picture
        # Names of XML vocabularies only: a picture in an <img> loads nothing anyway.
        assert not re.search(rb'(href|src)="(?!#)', picture)


def test_the_page_is_for_phones_and_for_the_dark() -> None:
    page = _page(charts=(chart(),))
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        page.found
    )
    dark = [a for tag, a in page.found if tag == "source"]
    assert [one["media"] for one in dark] == ["(prefers-color-scheme: dark)"]
    assert "@media (prefers-color-scheme: dark)" in page.text


def test_every_text_of_the_page_is_escaped() -> None:
    page = _page(
        figures={},
        measured=NASTY,
        command=NASTY,
        created=NASTY,
        problems=(NASTY,),
        not_measured={NASTY: NASTY},
        sheets=(Sheet(title=NASTY, columns=(NASTY,), rows=((NASTY,),)),),
        details={NASTY: NASTY},
        workload={NASTY: NASTY},
        charts=(chart(title=NASTY, y_label=NASTY),),
    )
    assert "script" not in {tag for tag, _ in page.found}
    assert page.text.count("alert(1)") >= 10
