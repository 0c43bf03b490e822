"""Reading small YAML files of settings."""

from collections import Counter
from pathlib import Path
from typing import Any, final

import yaml

from exeunt.engine.errors import ConfigError

MAX_YAML_BYTES = 1 << 20


def read_yaml(path: Path, what: str, error: type[ConfigError] = ConfigError) -> object:
    """Return the content of a YAML file; a key that is there twice is refused.

    Args:
        path: of the file.
        what: the file is, for the message.
        error: what to raise.

    Raises:
        ConfigError: or the given kind of it; the file cannot be read, or is no such YAML.
    """
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise error(f"{path} is over {MAX_YAML_BYTES} bytes: no {what} is")
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except OSError as failure:
        raise error(f"cannot read the {what} {path}: {failure.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as failure:
        raise error(f"{path} is not valid YAML: {failure}") from None


@final
class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is there twice, of which the library would drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node."""
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := sorted(name for name, times in keys.items() if times > 1):
            raise yaml.constructor.ConstructorError(
                None, None, f"the keys {twice} are there twice: keep one of each", node.start_mark
            )
        return super().construct_mapping(node, deep)
