"""Reading the settings: the file, over it the environment, over that the command line."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from exeunt.engine.errors import ConfigError
from exeunt.engine.validation import dotted, plain
from exeunt.engine.yaml_file import read_yaml
from exeunt.server.settings import ENV_DELIMITER, ENV_PREFIX, Settings

Values = dict[str, Any]


def load_settings(
    file: str | Path | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Return the validated settings.

    Args:
        file: a YAML file; none is fine.
        flags: nested values of the command line, which win over the environment, which wins over
            the file.

    Raises:
        ConfigError: names the key, what was expected and what was found.
    """
    in_file = _read_file(Path(file)) if file is not None else {}
    in_env = _read_environment()
    merged = _merged(_merged(in_file, in_env), dict(flags or {}))
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise ConfigError(_message(error, file, in_env)) from None


def _read_file(path: Path) -> Values:
    content = read_yaml(path, "configuration")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} must be a mapping of sections ({', '.join(Settings.model_fields)}),"
            f" found a {type(content).__name__}"
        )
    # A section that is there but empty is one that says nothing.
    return {str(key): value for key, value in content.items() if value is not None}


def _read_environment() -> Values:
    for name in os.environ:
        if not name.upper().startswith(ENV_PREFIX):
            continue
        section = name[len(ENV_PREFIX) :].split(ENV_DELIMITER)[0].lower()
        if section not in Settings.model_fields:
            raise ConfigError(
                f"environment variable {name}: {section!r} is no section; expected one of"
                f" {', '.join(Settings.model_fields)}"
            )
    source = EnvSettingsSource(Settings)
    try:
        return dict(source())
    except SettingsError:
        raise ConfigError(_undecodable(source)) from None


def _undecodable(source: EnvSettingsSource) -> str:
    """Name the variable that the library could not decode; it names only the section."""
    for name, value in dict(source.env_vars).items():
        source.env_vars = {name: value}
        try:
            source()
        except SettingsError:
            return f"environment variable {name.upper()}: expected JSON, found {value!r}"
    return "environment: a value is not valid JSON"


def _merged(under: Values, over: Values) -> Values:
    result = dict(under)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merged(old, value)
        result[key] = value
    return result


def _message(error: ValidationError, file: str | Path | None, in_env: Values) -> str:
    first = error.errors(include_url=False)[0]
    key = dotted(first["loc"]) or "top level"
    loc = key.split(".")
    where = "environment" if _holds(in_env, loc) else str(file or "settings")
    if _holds(in_env, loc):
        key = f"{ENV_PREFIX}{ENV_DELIMITER.join(loc).upper()}"
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {key}: check its spelling, or remove it"
    found = first["input"]
    shown = f"; found {found!r}" if isinstance(found, str | int | float | bool) else ""
    return f"{where}: {key}: {plain(first['msg'])}{shown}"


def _holds(values: Values, loc: list[str]) -> bool:
    place: Any = values
    for part in loc:
        if not isinstance(place, dict) or part not in place:
            return False
        place = place[part]
    return True
