"""Settings: one file, the environment over it, flags over both; anything unknown is refused."""

import os
from pathlib import Path
from typing import Any

import pytest

from exeunt.engine.errors import ConfigError
from exeunt.server.load_settings import load_settings

FILE = """
bundle: my-bundle
server: {port: 9000, overrides: {criteria: [never], thresholds: true}}
engine: {threads: 2}
limits: {max_text_chars: 100}
exit_policy:
  version: 4
  tasks: {default: {joint: {any: [{criterion: entropy, threshold: 0.3}]}}}
log: {level: warning}
"""


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("EXEUNT__"):
            monkeypatch.delenv(name)


def _file(root: Path, text: str) -> Path:
    path = root / "exeunt.yaml"
    path.write_text(text)
    return path


def test_the_defaults_are_complete() -> None:
    settings = load_settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8000)
    assert settings.server.max_body_bytes == 32 * 2**20
    assert settings.server.overrides.criteria == ()
    assert settings.bundle is None


def test_a_file_sets_everything(tmp_path: Path) -> None:
    settings = load_settings(_file(tmp_path, FILE))
    config = settings.engine_config()
    assert settings.bundle == Path("my-bundle")
    assert settings.server.port == 9000
    assert settings.server.overrides.thresholds
    assert (config.threads, config.limits.max_text_chars) == (2, 100)
    assert config.exit_policy is not None
    assert config.exit_policy.version == 4
    assert settings.log.level == "warning"


def test_the_environment_wins_over_the_file_and_flags_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXEUNT__SERVER__PORT", "9001")
    monkeypatch.setenv("EXEUNT__ENGINE__THREADS", "3")
    monkeypatch.setenv("EXEUNT__SERVER__OVERRIDES__CRITERIA", '["entropy"]')
    monkeypatch.setenv("EXEUNT_DEBUG_NOT_OURS", "x")
    settings = load_settings(_file(tmp_path, FILE), {"server": {"host": "::1"}})
    assert (settings.server.port, settings.server.host) == (9001, "::1")
    assert settings.server.overrides.criteria == ("entropy",)
    assert settings.server.overrides.thresholds  # the file's, beside it
    assert settings.engine.threads == 3
    assert load_settings(None, {"server": {"port": 1}}).server.port == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("engin: {}", "unknown key engin"),
        ("engine: {thrads: 2}", "unknown key engine.thrads"),
        ("engine: {threads: two}", "engine.threads"),
        ("engine: {threads: -1}", "found -1"),
        ("server: {port: 70000}", "server.port"),
        ("server: {request_timeout_s: .nan}", "server.request_timeout_s"),
        ("server: {overrides: {criteria: [entropie]}}", "server.overrides.criteria.0"),
        ("server: {max_buffered_bytes: 1}", "max_buffered_bytes must be at least"),
        ("engine: {limits: {max_text_chars: 3}}", "set `limits` at the top level"),
        ("exit_policy: {tasks: {default: {joint: {any: [{criterion: entropy}]}}}}", "threshold"),
        ("limits: 3", "limits"),
        (
            "exit_policy: {tasks: {default: {x: {any: [{criterion: margin, threshold: .nan}]}}}}",
            "any.0.threshold: Input should be a finite number",
        ),
        ("- a list", "must be a mapping"),
        ("a: [", "not valid YAML"),
        ("server: {port: 1}\nserver: {host: x}", "the keys ['server'] are there twice"),
        ("server: {port: 1, port: 2}", "the keys ['port'] are there twice"),
        ("log: {level: loud}", "log.level"),
    ],
)
def test_a_wrong_file_names_its_key(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(_file(tmp_path, text))
    assert says in str(caught.value)
    assert "exeunt.yaml" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("pydantic", "function-", "Value error"))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("EXEUNT__ENGINE__THRADS", "2", "EXEUNT__ENGINE__THRADS"),
        ("EXEUNT__ENGIN__THREADS", "2", "EXEUNT__ENGIN__THREADS"),
        ("exeunt__engin__threads", "2", "exeunt__engin__threads"),
        ("EXEUNT__SERVER__PORT", "many", "EXEUNT__SERVER__PORT"),
        ("EXEUNT__SERVER__OVERRIDES__CRITERIA", "entropy", "OVERRIDES__CRITERIA: expected JSON"),
        ("EXEUNT__SERVER", "3", "EXEUNT__SERVER"),
    ],
)
def test_a_wrong_variable_is_named(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert says in str(caught.value)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*No such file"):
        load_settings(tmp_path / "nothing.yaml")


def test_an_empty_section_says_nothing(tmp_path: Path) -> None:
    expected: Any = load_settings()
    assert load_settings(_file(tmp_path, "server:\nengine:\n")) == expected
    assert load_settings(_file(tmp_path, "")) == expected
