"""What the project says of itself in several places agrees: versions, supported Pythons, workflow, citation."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def minor(version: str) -> int:
    return int(version.split(".")[1])


def test_supported_pythons_agree() -> None:
    classified = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    oldest, newest = min(classified, key=minor), max(classified, key=minor)
    assert PROJECT["requires-python"] == f">={oldest}"
    assert [minor(version) for version in classified] == list(range(minor(oldest), minor(newest) + 1))
    assert WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]["python"] == [oldest, newest]
    assert f"sys.version_info < (3, {minor(oldest)})" in (ROOT / "Makefile").read_text()
    for page in ("README.md", "docs/index.md"):
        assert f"Python {oldest} to {newest}" in (ROOT / page).read_text(), page


def test_the_workflow_does_what_the_makefile_offers() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    made = [step["run"].split()[1:] for step in steps if step.get("run", "").startswith("make ")]
    assert {target for words in made for target in words} <= targets
    assert {"check", "test", "docs"} <= {target for words in made for target in words}


def test_versions_agree() -> None:
    version = PROJECT["version"]
    assert CITATION["version"] == version
    assert re.search(r"^## (\S+),", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version  # type: ignore[index]


def test_the_citation_has_what_its_format_requires() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "version", "license", "references"} <= CITATION.keys()
    assert CITATION["license"] == PROJECT["license"]
    for reference in CITATION["references"]:
        assert {"type", "title", "authors"} <= reference.keys()


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda p: p.stem)
def test_issue_forms_ask(form: Path) -> None:
    content: dict[str, Any] = yaml.safe_load(form.read_text())
    assert content["name"]
    assert content["description"]
    assert any(field.get("validations", {}).get("required") for field in content["body"])
    assert len({field["id"] for field in content["body"]}) == len(content["body"])
    if form.stem != "feature":
        assert "neuromoco --version" in form.read_text()
