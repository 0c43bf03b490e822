"""What the README shows is what the code does."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

from exeunt.server.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no {language} block"
    return found[1]


def test_the_python_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _block("python")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    label, layer, depth = done.stdout.split()
    assert label == "circle"
    assert 1 <= int(layer) <= int(depth)


def test_the_configuration_is_valid() -> None:
    settings = Settings.model_validate(yaml.safe_load(_block("yaml")))
    assert settings.exit_policy is not None
    assert settings.exit_policy.version == 2


def test_the_answer_shown_is_the_answer_given() -> None:
    command = [sys.executable, "-c", "from exeunt.server.cli.app import main; main()"]
    arguments = ["predict", "--image", "examples/shape.png", "--json", "--text"]
    done = subprocess.run(
        [*command, *arguments, "what shape is in the image?"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    shown, given = json.loads(_block("json")), json.loads(done.stdout)
    assert shown.keys() == given.keys()
    for key in ("label", "exit_layer", "depth", "criterion", "reason", "threshold", "lanes"):
        assert shown[key] == given[key], key


def test_every_local_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
