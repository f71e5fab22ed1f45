"""The workflows name what there is: targets, files, jobs and options, and actions by their major version."""

import os
import re
import subprocess

import pytest
import yaml

from lightning_adv.cli.configs import shipped_names
from tests.source_tree import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def jobs(name: str) -> dict[str, dict]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())["jobs"]


def steps(name: str) -> list[dict]:
    return [step for job in jobs(name).values() for step in job["steps"]]


def test_there_is_one_to_test_one_to_publish_and_one_for_the_site():
    assert [path.stem for path in WORKFLOWS] == ["publish", "site", "test"]


@pytest.mark.parametrize("name", [path.stem for path in WORKFLOWS])
def test_a_workflow_names_what_there_is(name):
    said = "\n".join(step.get("run", "") for step in steps(name))
    assert set(re.findall(r"^\s*make ([a-z-]+)", said, re.MULTILINE)) <= set(TARGETS)
    assert set(re.findall(r"--config (\S+)", said)) <= set(shipped_names())
    assert [path for path in re.findall(r"\b(?:tests|docs|configs)/[\w./-]+", said) if not (ROOT / path).exists()] == []
    for job in jobs(name).values():
        needed = job.get("needs", [])
        assert {needed} if isinstance(needed, str) else set(needed) <= set(jobs(name))
    for step in steps(name):
        assert ("run" in step) != ("uses" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@(release/)?v\d+", step.get("uses", "an/action@v1"))


def test_only_the_job_that_publishes_may_ask_for_an_identity_and_it_runs_nothing_of_the_project():
    may = [job for job in jobs("publish").values() if "id-token" in job.get("permissions", {})]
    assert may == [jobs("publish")["publish"]]
    assert may[0]["environment"] == "pypi"
    assert not [step for step in may[0]["steps"] if "run" in step]


def test_the_readme_of_an_index_links_to_files_that_the_repository_has(tmp_path):
    (step,) = (step for step in steps("publish") if step.get("env"))
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text())
    places = {name: f"https://{name}/" for name in step["env"]}
    command = step["run"].replace("-i ", "-i.before ", 1)  # where sed wants a suffix
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=dict(os.environ) | places, check=True)
    text = re.sub(r"`[^`]*`", "", (tmp_path / "README.md").read_text())
    links = re.findall(r"\]\(([^)]+)\)|(?:src|href)=\"([^\"]+)\"", text)
    found = [one or other for one, other in links]
    assert found
    for link in found:
        assert re.match(r"https?://|#", link), link
        for place in places.values():
            assert not link.startswith(place) or (ROOT / link.removeprefix(place).partition("#")[0]).exists(), link
