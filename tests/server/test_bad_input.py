"""Every bad input gets a 4xx that says what to do, and the server goes on."""

import base64
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.server.serving import TEXT, Served, encoded, png

pytestmark = pytest.mark.anyio

JSON_TYPE = {"content-type": "application/json"}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


GOOD = _base64(png())


def _no_pixels() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def _animated() -> bytes:
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 200)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


IMAGES: dict[str, Callable[[], bytes]] = {
    "not an image": lambda: b"this is no image",
    "empty": lambda: b"",
    "truncated": lambda: encoded(Image.effect_noise((64, 64), 60.0))[:-200],
    "animated": _animated,
    "0 pixels": _no_pixels,
    "100 megapixels": lambda: encoded(Image.new("1", (10_000, 10_000))),
    "too long": lambda: encoded(Image.new("1", (20_000, 1))),
    "CMYK": lambda: encoded(Image.new("CMYK", (8, 8)), "JPEG"),
    "16 bit": lambda: encoded(Image.new("I;16", (8, 8))),
}


async def _check(response: httpx.Response, status: int, error_type: str, served: Served) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "error_type"}
    assert body["error_type"] == error_type
    assert len(body["error"]) > 20
    assert response.headers["content-type"] == "application/json"
    assert (await served.ask()).status_code == 200
    assert served.engine.queued_rows == 0
    return str(body["error"])


@pytest.mark.parametrize("what", IMAGES)
@pytest.mark.parametrize("form", ["json", "multipart"])
async def test_a_bad_image(what: str, form: str, served: Served) -> None:
    content = IMAGES[what]()
    if form == "json":
        response = await served.client.post(
            "/predict", json={"image": _base64(content), "text": TEXT}
        )
    else:
        response = await served.client.post(
            "/predict", files={"image": ("a.png", content)}, data={"text": TEXT}
        )
    await _check(response, 422, "image", served)


BODIES: list[tuple[str, dict[str, Any], int, str]] = [
    ("wrong base64", {"image": "!" + GOOD, "text": TEXT}, 400, "malformed_body"),
    ("no padding", {"image": GOOD[:-1], "text": TEXT}, 400, "malformed_body"),
    ("not ASCII", {"image": "ä" + GOOD, "text": TEXT}, 400, "malformed_body"),
    ("data URL", {"image": "data:image/png," + GOOD, "text": TEXT}, 400, "malformed_body"),
    ("a URL", {"image": "https://example.org/cat.png", "text": TEXT}, 422, "image"),
    ("a file URL", {"image": "FILE:///etc/hostname", "text": TEXT}, 422, "image"),
    ("text empty", {"image": GOOD, "text": ""}, 422, "text"),
    ("text blank", {"image": GOOD, "text": " \n\t "}, 422, "text"),
    ("text too long", {"image": GOOD, "text": "a" * 100_000}, 422, "text"),
    ("too many tokens", {"image": GOOD, "text": "cat " * 17}, 422, "text"),
    ("text a number", {"image": GOOD, "text": 3}, 422, "invalid_request"),
    ("text null", {"image": GOOD, "text": None}, 422, "input"),
    ("text missing", {"image": GOOD}, 422, "input"),
    ("image missing", {"text": TEXT}, 422, "input"),
    ("image a list", {"image": [GOOD], "text": TEXT}, 422, "invalid_request"),
    ("images", {"images": [GOOD], "text": TEXT}, 422, "input"),
    ("unknown field", {"image": GOOD, "text": TEXT, "txet": 1}, 422, "invalid_request"),
    ("unknown task", {"image": GOOD, "text": TEXT, "task": "x"}, 422, "input"),
    ("unknown criterion", {"image": GOOD, "text": TEXT, "criterion": "x"}, 422, "invalid_request"),
    ("threshold a word", {"image": GOOD, "text": TEXT, "threshold": "x"}, 422, "invalid_request"),
    ("threshold true", {"image": GOOD, "text": TEXT, "threshold": True}, 422, "invalid_request"),
    ("override", {"image": GOOD, "text": TEXT, "threshold": 0.1}, 403, "override_refused"),
    ("criterion", {"image": GOOD, "text": TEXT, "criterion": "never"}, 403, "override_refused"),
    ("an empty object", {}, 422, "input"),
    ("no samples", {"samples": []}, 422, "invalid_request"),
    ("samples no list", {"samples": {}}, 422, "invalid_request"),
    ("beside samples", {"samples": [], "text": "x"}, 422, "invalid_request"),
]


@pytest.mark.parametrize(
    ("body", "status", "kind"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES]
)
async def test_a_bad_field(body: dict[str, Any], status: int, kind: str, served: Served) -> None:
    await _check(await served.client.post("/predict", json=body), status, kind, served)


NUMBER = f'{{"image": "{GOOD}", "text": "a cat", "threshold": %s}}'
RAW: list[tuple[str, bytes, int, str]] = [
    ("no body", b"", 400, "malformed_body"),
    ("no JSON", b"{", 400, "malformed_body"),
    ("no UTF-8", b'{"text": "\xff\xfe"}', 400, "malformed_body"),
    ("UTF-16", json.dumps({"text": "a"}).encode("utf-16"), 400, "malformed_body"),
    ("NaN", (NUMBER % "NaN").encode(), 400, "malformed_body"),
    ("Infinity", (NUMBER % "-Infinity").encode(), 400, "malformed_body"),
    ("infinite", (NUMBER % "1e999").encode(), 422, "invalid_request"),
    ("nested", b"[" * 100_000 + b"]" * 100_000, 400, "malformed_body"),
    ("digits", b"1" * 10_000, 400, "malformed_body"),
    ("a number", b"1", 422, "invalid_request"),
    ("null", b"null", 422, "invalid_request"),
    ("a list of numbers", b"[1]", 422, "invalid_request"),
    ("half a key", b'{"\\ud800": 1}', 422, "invalid_request"),
    ("half a pair", b'{"image": "", "text": "\\ud800"}', 422, "text"),
]


@pytest.mark.parametrize(("body", "status", "kind"), [r[1:] for r in RAW], ids=[r[0] for r in RAW])
async def test_a_bad_json_body(body: bytes, status: int, kind: str, served: Served) -> None:
    response = await served.client.post("/predict", content=body, headers=JSON_TYPE)
    await _check(response, status, kind, served)


TYPES = [
    {},
    {"content-type": "text/plain"},
    {"content-type": "image/png"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "application/json; charset=latin-1"},
    {"content-type": "application/json", "content-encoding": "gzip"},
]


@pytest.mark.parametrize("headers", TYPES, ids=lambda headers: " ".join(headers.values()) or "none")
async def test_a_wrong_content_type(headers: dict[str, str], served: Served) -> None:
    response = await served.client.post("/predict", content=b"{}", headers=headers)
    await _check(response, 415, "unsupported_media_type", served)


FORM_TYPE = "multipart/form-data; boundary=B"
FORMS = [
    ("no boundary", "multipart/form-data", b"--B--\r\n", 400, "malformed_body"),
    ("no body", FORM_TYPE, b"", 400, "malformed_body"),
    ("no form", FORM_TYPE, b"hello", 400, "malformed_body"),
    (
        "cut short",
        FORM_TYPE,
        b'--B\r\nContent-Disposition: form-data; name="text"\r\n\r\na cat',
        400,
        "malformed_body",
    ),
    ("no name", FORM_TYPE, b"--B\r\nX-Y: z\r\n\r\na\r\n--B--\r\n", 400, "malformed_body"),
    (
        "no UTF-8",
        FORM_TYPE,
        b'--B\r\nContent-Disposition: form-data; name="text"\r\n\r\n\xff\r\n--B--\r\n',
        400,
        "malformed_body",
    ),
    ("no parts", FORM_TYPE, b"--B--\r\n", 422, "input"),
]


@pytest.mark.parametrize(
    ("header", "body", "status", "kind"), [f[1:] for f in FORMS], ids=[f[0] for f in FORMS]
)
async def test_a_bad_form(header: str, body: bytes, status: int, kind: str, served: Served) -> None:
    response = await served.client.post("/predict", content=body, headers={"content-type": header})
    await _check(response, status, kind, served)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"text": TEXT, "threshold": "nan"}, "invalid_request"),
        ({"text": TEXT, "threshold": "high"}, "invalid_request"),
        ({"text": TEXT, "colour": "red"}, "invalid_request"),
        ({"text": ["a cat", "a dog"]}, "invalid_request"),
        ({"text": "a" * 100_000}, "text"),
        ({"text": ""}, "text"),
        ({}, "input"),
    ],
)
async def test_bad_form_fields(fields: dict[str, Any], kind: str, served: Served) -> None:
    response = await served.client.post("/predict", files={"image": ("a.png", png())}, data=fields)
    await _check(response, 422, kind, served)


async def test_a_url_in_a_form(served: Served) -> None:
    response = await served.client.post(
        "/predict", files={"image": (None, "http://example.org/a.png"), "text": (None, TEXT)}
    )
    assert "never fetched" in await _check(response, 422, "image", served)


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize("form", ["application/json", FORM_TYPE])
async def test_a_body_of_50_megabytes(declared: bool, form: str, served: Served) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(50):
            sent += 10**6
            yield b" " * 10**6

    headers = {"content-type": form}
    if declared:
        headers["content-length"] = str(50 * 10**6)
    response = await served.client.post("/predict", content=chunks(), headers=headers)
    await _check(response, 413, "body_too_large", served)
    assert sent <= (0 if declared else 35 * 10**6)


async def test_an_error_never_quotes_the_content(served: Served) -> None:
    secret = "my-secret-words"
    for body in (
        {"image": secret, "text": 1},
        {"image": GOOD, "text": secret, "criterion": secret},
    ):
        response = await served.client.post("/predict", json=body)
        assert response.status_code >= 400
        assert secret not in response.text


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/predict", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ],
)
async def test_the_frameworks_errors(
    method: str, path: str, status: int, kind: str, served: Served
) -> None:
    response = await served.client.request(method, path)
    await _check(response, status, kind, served)
    if status == 405:
        assert response.headers["allow"]
