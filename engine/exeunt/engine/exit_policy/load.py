"""Reading an exit policy from a file."""

from pathlib import Path

from pydantic import ValidationError

from exeunt.engine.errors import ExitPolicyError
from exeunt.engine.exit_policy.format import ExitPolicy
from exeunt.engine.validation import first_problem
from exeunt.engine.yaml_file import read_yaml


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
    content = read_yaml(path, "exit policy", ExitPolicyError)
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
