"""What docs/ci.md says of rules, formats and CI systems."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from rankscope.gate.findings import Finding
from rankscope.gate.rules import DEFAULT_RULES, STATUS, STRUCTURE, parse_rule
from rankscope.views.formats import FORMATS, SUFFIXES

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "ci.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def table(head: str) -> list[list[str]]:
    """The rows of the table with this heading in its first cell."""
    body = TEXT.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def test_every_rule_of_the_table_is_understood() -> None:
    rules = [rule for row in table("a rule") for rule in re.findall("`([^`]+)`", row[0])]
    assert len(rules) > 10
    for rule in rules:
        parse_rule(rule)
    kinds = {type(parse_rule(rule)).__name__ for rule in rules}
    assert kinds == {"ChangeRule", "BoundRule", "StateRule"}


def test_default_rules_are_those_there_are() -> None:
    assert [row[0].strip("`") for row in table("default rule")] == list(DEFAULT_RULES)


def test_every_finding_and_format_is_named() -> None:
    found = {row[0].strip("`") for row in table("finding")}
    assert found == {"a metric", STATUS, *STRUCTURE, "tied"}
    rows = table("`--format`")
    assert {row[0].strip("`") for row in rows if row[0]} == set(FORMATS)
    assert {row[1].strip("`") for row in rows if row[1]} == set(SUFFIXES)
    for key in Finding("", "", None, None, "", True, 0, "").to_row():
        assert re.search(rf"\b{key}\b", TEXT)


@pytest.mark.parametrize(
    ("word", "schema"), [("jobs:", "vendor.github-workflows"), ("image:", "vendor.gitlab-ci")]
)
def test_pipelines_are_valid(word: str, schema: str, tmp_path: Path) -> None:
    (block,) = (text for text in blocks("yaml") if word in text)
    (tmp_path / "pipeline.yml").write_text(block)
    arguments = ["--builtin-schema", schema, str(tmp_path / "pipeline.yml")]
    subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *arguments],
        check=True,
        capture_output=True,
        timeout=60,
    )


def test_the_action_and_the_hooks_are_used_as_they_are() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    (workflow,) = (yaml.safe_load(text) for text in blocks("yaml") if "jobs:" in text)
    steps = workflow["jobs"]["ranks"]["steps"]
    (step,) = (one for one in steps if "rankscope" in one["uses"])
    assert set(step["with"]) <= set(action["inputs"])
    assert all(f"`{name}`" in TEXT or name in step["with"] for name in action["inputs"])
    assert all(f"`{name}`" in TEXT for name in action["outputs"])
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    (config,) = (yaml.safe_load(text) for text in blocks("yaml") if "repos:" in text)
    used = [hook["id"] for hook in config["repos"][0]["hooks"]]
    assert used == [hook["id"] for hook in hooks]


def test_settings_are_toml_with_rules() -> None:
    (block,) = blocks("toml")
    for rule in tomllib.loads(block)["tool"]["rankscope"]["check"]["rules"]:
        parse_rule(rule)
