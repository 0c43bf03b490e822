"""Reading an exit policy from a file."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from exeunt.engine.errors import ExitPolicyError
from exeunt.engine.exit_policy.format import ExitPolicy
from exeunt.engine.validation import first_problem

MAX_POLICY_BYTES = 1 << 20


def never(version: int = 1) -> ExitPolicy:
    """Return the policy under which every row runs to full depth."""
    return ExitPolicy(version=version)


def load_exit_policy(source: str | Path) -> ExitPolicy:
    """Return the exit policy of a YAML file, or the full-depth policy for the word `never`.

    Raises:
        ExitPolicyError: the file cannot be read, or what it says is not valid.
    """
    if str(source) == "never":
        return never()
    path = Path(source)
    try:
        if path.stat().st_size > MAX_POLICY_BYTES:
            raise ExitPolicyError(f"{path} is over {MAX_POLICY_BYTES} bytes: no exit policy is")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExitPolicyError(f"cannot read the exit policy {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ExitPolicyError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict) or set(content) != {"exit_policy"}:
        raise ExitPolicyError(f"{path} must have the one key `exit_policy` at its top")
    return parse_exit_policy(content["exit_policy"], str(path))


def parse_exit_policy(content: object, where: str) -> ExitPolicy:
    """Return the exit policy that `content` (of the place `where`) describes.

    Raises:
        ExitPolicyError: names the key that is wrong and what was expected.
    """
    try:
        return ExitPolicy.model_validate(content)
    except ValidationError as error:
        key, what = first_problem(error)
        raise ExitPolicyError(f"exit policy of {where}, at {key or 'top'}: {what}") from None
