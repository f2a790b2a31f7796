"""`rankscope baseline` and `rankscope check`, as a build calls them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.checkpoints import peft_models
from tests.cli.conftest import Run
from tests.gate import models

FORMATS = ("text", "json", "junit", "github", "markdown", "sarif")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without settings."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def released(here: Path, run: Run) -> Path:
    """A directory v1 and its baseline, ranks.json."""
    path = models.save(here / "v1", models.model())
    ended = run("baseline", "v1", "-o", "ranks.json")
    assert (ended.code, ended.out, ended.err) == (0, "", "wrote ranks.json\n")
    return path


@pytest.fixture
def regressed(released: Path, here: Path) -> dict[str, str]:
    """A directory v2 with every regression, and what must be told of it."""
    weights, expected = models.planted()
    models.save(here / "v2", weights)
    return expected


class TestVerdict:
    def test_unchanged(self, released: Path, run: Run) -> None:
        ended = run("check", "v1", "--baseline", "ranks.json")
        assert ended.code == 0
        assert ended.err == ""
        assert "16" in ended.out

    @pytest.mark.parametrize("form", FORMATS)
    def test_every_regression_is_named_in_every_format(
        self, regressed: dict[str, str], run: Run, form: str
    ) -> None:
        ended = run("check", "v2", "--baseline", "ranks.json", "--format", form)
        assert ended.code == 1
        text = ended.out.replace("\\", "")  # Markdown's escapes
        for name, metric in regressed.items():
            assert name in text, name
            assert metric in text
        untouched = set(models.model()) - set(regressed)
        if form not in ("junit",):  # which lists what passes, too
            assert not [name for name in untouched if name in text]

    def test_formats_are_what_they_claim(self, regressed: dict[str, str], run: Run) -> None:
        def out(form: str) -> str:
            return run("check", "v2", "--baseline", "ranks.json", "--format", form).out

        assert json.loads(out("json"))["verdict"] == "fail"
        assert json.loads(out("sarif"))["version"] == "2.1.0"
        suite = ET.fromstring(out("junit"))
        assert len(list(suite.iter("failure"))) == len(regressed)
        assert out("github").startswith("::") or "\n::error" in out("github")

    def test_files_beside_what_is_printed(self, regressed: dict[str, str], run: Run) -> None:
        names = ["a.json", "b.xml", "c.sarif", "d.md", "e.html", "f.csv"]
        outputs = [part for name in names for part in ("-o", name)]
        ended = run("check", "v2", "--baseline", "ranks.json", *outputs)
        assert ended.code == 1
        assert [line for line in ended.err.splitlines() if line.startswith("wrote")] == [
            f"wrote {name}" for name in names
        ]
        for name in names:
            text = Path(name).read_text().replace("\\", "")
            assert models.VALUE in text, name
        assert models.VALUE in ended.out

    def test_incomplete(self, released: Path, here: Path, run: Run) -> None:
        path = models.save(here / "v2", models.model(), shards=3)
        (path / "model-00002-of-00003.safetensors").unlink()
        ended = run("check", "v2", "--baseline", "ranks.json")
        assert ended.code == 4
        assert "incomplete" in ended.err
        assert "missing" in ended.out

    def test_without_a_baseline(self, released: Path, run: Run) -> None:
        assert run("check", "v1", "--rule", "rank >= 0.4 * min(shape)").code == 0
        assert run("check", "v1", "--rule", "effective_rank >= 0.9 * min(shape)").code == 1

    def test_headers(self, released: Path, here: Path, run: Run) -> None:
        arguments = ("--baseline", "ranks.json", "--headers")
        ended = run("check", "v1", *arguments)
        assert ended.code == 0
        assert "by their headers alone" in ended.out
        weights = models.model()
        del weights[models.UP]
        models.save(here / "v2", weights)
        ended = run("check", "v2", *arguments)
        assert ended.code == 1
        assert models.UP in ended.out

    def test_headers_answer_no_rule_on_readings(self, released: Path, run: Run) -> None:
        ended = run("check", "v1", "--headers", "--rule", "rank >= 1000")
        assert (ended.code, ended.out) == (2, "")
        assert "'rank >= 1000' is on a reading, and headers hold none" in ended.err
        arguments = ("check", "v1", "--baseline", "ranks.json", "--headers")
        assert run(*arguments, "--rule", "rank: drop <= 1%").code == 2
        assert run(*arguments, "--rule", "added: none").code == 0

    def test_headers_leave_out_what_the_project_has_settled(
        self, released: Path, here: Path, run: Run
    ) -> None:
        settled = ["rank >= 1000", "added: none", "rank: drop <= 1% for *v_proj*"]
        (here / "rankscope.toml").write_text(f"rules = {json.dumps(settled)}\n")
        arguments = ("check", "v1", "--baseline", "ranks.json")
        ended = run(*arguments, "--headers")
        assert ended.code == 0, ended.err
        assert ended.out.count("2 rules on readings were not looked at: no weights were read") == 1
        document = json.loads(run(*arguments, "--headers", "--format", "json").out)
        assert document["left_out"] == ["rank >= 1000", "rank: drop <= 1%"]
        assert not [rule for rule in document["rules"] if rule.startswith("rank")]
        assert "added: none" in document["rules"]
        ended = run(*arguments)
        assert ended.code == 1
        assert "not looked at" not in ended.out

    def test_all_means_every_finding_in_markdown_too(self, released: Path, run: Run) -> None:
        rules = [
            part for i in range(2) for part in ("--rule", f"{('rank', 'stable_rank')[i]} >= 999")
        ]
        outputs = ("-o", "a.md", "-o", "a.html", "--format", "markdown")
        worst = run("check", "v1", *rules, *outputs)
        assert (worst.code, worst.out) == (1, Path("a.md").read_text())
        assert "the 20 worst of 32 findings" in worst.out
        every = run("check", "v1", *rules, *outputs, "--all")
        assert (every.code, every.out) == (1, Path("a.md").read_text())
        assert "worst of" not in every.out
        assert len([line for line in every.out.splitlines() if line.startswith("| ")]) == 34
        assert Path("a.html").read_text().count("<tr>") == 33

    def test_an_eps_of_ones_own_without_a_baseline(self, released: Path, run: Run) -> None:
        assert run("check", "v1", "--rule", "rank@0.05 >= 1").code == 0
        ended = run("check", "v1", "--rule", "rank@0.05 >= 999")
        assert ended.code == 1
        assert "rank@0.05" in ended.out


class TestRejected:
    """A model or a baseline that is not sound: the formats that CI systems read tell of it."""

    @pytest.fixture(params=["none", "cut.safetensors", "v1"])
    def arguments(self, released: Path, here: Path, request: pytest.FixtureRequest) -> list[str]:
        (here / "cut.safetensors").write_bytes((released / "model.safetensors").read_bytes()[:999])
        (here / "bad.json").write_text("[]")
        return [request.param, *(("--baseline", "bad.json") if request.param == "v1" else ())]

    @pytest.mark.parametrize("headers", [(), ("--headers",)])
    def test_one_annotation(self, arguments: list[str], run: Run, headers: tuple[str, ...]) -> None:
        ended = run("check", *arguments, *headers, "--format", "github")
        assert ended.code == 3
        (line,) = ended.out.splitlines()
        assert line.startswith(f"::error title={arguments[0]}::")
        (told,) = ended.err.splitlines()
        assert line.endswith(f"::{told.removeprefix('error: ')}")

    @pytest.mark.parametrize("headers", [(), ("--headers",)])
    def test_one_case_of_junit(
        self, arguments: list[str], run: Run, headers: tuple[str, ...]
    ) -> None:
        files = ("-o", "a.xml", "-o", "a.json", "-o", "a.md")
        ended = run("check", *arguments, *headers, "--format", "junit", *files)
        assert ended.code == 3
        assert ended.err.splitlines()[0] == "wrote a.xml"
        assert Path("a.xml").read_text() == ended.out
        assert not Path("a.json").exists()
        (error,) = ET.fromstring(ended.out).iter("error")
        assert error.text == ended.err.splitlines()[1].removeprefix("error: ")

    @pytest.mark.parametrize("form", sorted({*FORMATS} - {"github", "junit"}))
    def test_nothing_in_other_formats(self, arguments: list[str], run: Run, form: str) -> None:
        ended = run("check", *arguments, "--format", form)
        assert (ended.code, ended.out) == (3, "")
        assert len(ended.err.splitlines()) == 1

    def test_a_verdict_is_not_written_over(self, regressed: dict[str, str], run: Run) -> None:
        """The baseline is refused after the verdict has been told."""
        update = ("--baseline", "ranks.json", "--update", "--format", "junit", "-o", "a.xml")
        ended = run("check", "v2", *update)
        assert ended.code == 3
        assert Path("a.xml").read_text() == ended.out
        assert list(ET.fromstring(ended.out).iter("failure"))


class TestUpdate:
    def test_only_when_told(self, regressed: dict[str, str], run: Run) -> None:
        before = Path("ranks.json").read_bytes()
        assert run("check", "v2", "--baseline", "ranks.json").code == 1
        assert Path("ranks.json").read_bytes() == before

    def test_accepts_what_changed(self, released: Path, here: Path, run: Run) -> None:
        weights = models.model()
        weights[models.UP] = models.projected(weights[models.UP], 0.5)
        models.save(here / "v2", weights)
        ended = run("check", "v2", "--baseline", "ranks.json", "--update")
        assert ended.code == 0
        assert models.UP in ended.out
        assert "wrote ranks.json" in ended.err
        assert "--update" not in ended.out  # what has been done is no advice
        assert run("check", "v2", "--baseline", "ranks.json").code == 0
        assert run("check", "v1", "--baseline", "ranks.json").code == 0  # a gain is none's loss

    def test_makes_the_first_one(self, released: Path, run: Run) -> None:
        assert run("check", "v1", "--baseline", "new.json", "--update").code == 0
        assert Path("new.json").read_bytes() == Path("ranks.json").read_bytes()

    def test_keeps_the_baselines_question(self, released: Path, run: Run) -> None:
        asked = ("-m", "rank", "--eps", "0.1", "--exclude", "*embed*")
        run("baseline", "v1", "-o", "own.json", *asked)
        before = Path("own.json").read_bytes()
        assert run("check", "v1", "--baseline", "own.json", "--update").code == 0
        assert Path("own.json").read_bytes() == before

    def test_not_of_what_is_not_whole(self, regressed: dict[str, str], run: Run) -> None:
        before = Path("ranks.json").read_bytes()
        ended = run("check", "v2", "--baseline", "ranks.json", "--update")
        assert ended.code == 3
        assert "no baseline without it: holds NaN" in ended.err
        assert Path("ranks.json").read_bytes() == before

    def test_needs_to_know_where(self, released: Path, run: Run) -> None:
        assert run("check", "v1", "--update").code == 2
        assert run("check", "v1", "--update", "--headers", "--baseline", "ranks.json").code == 2


class TestSettings:
    def test_of_the_project(self, regressed: dict[str, str], here: Path, run: Run) -> None:
        (here / "pyproject.toml").write_text(
            '[tool.rankscope.check]\nbaseline = "ranks.json"\n'
            'rules = ["rank: any", "effective_rank: any", "numerical_rank: any"]\n'
        )
        ended = run("check", "v2")
        assert ended.code == 1
        assert models.VALUE not in ended.out
        assert models.UP in ended.out
        assert "v2 against ranks.json" in ended.out  # and not all the way from the root

    def test_help_names_the_table(self, run: Run) -> None:
        words = re.sub(r"[│\s]+", " ", run("check", "--help").out)
        assert "rankscope.toml, or [tool.rankscope.check] in pyproject.toml" in words

    def test_flags_win(self, released: Path, here: Path, run: Run) -> None:
        (here / "rankscope.toml").write_text('rules = ["rank >= 999"]\n')
        assert run("check", "v1").code == 1
        assert run("check", "v1", "--rule", "rank >= 1").code == 0

    def test_named_file(self, released: Path, here: Path, run: Run) -> None:
        (here / "strict.toml").write_text('rules = ["rank >= 999"]\n')
        assert run("check", "v1").code == 0
        assert run("check", "v1", "--config", "strict.toml").code == 1

    def test_baseline_relative_to_its_file(self, released: Path, here: Path, run: Run) -> None:
        (here / "ci").mkdir()
        Path("ranks.json").rename("ci/ranks.json")
        (here / "ci" / "rankscope.toml").write_text('baseline = "ranks.json"\n')
        assert run("check", "v1", "--config", "ci/rankscope.toml").code == 0


class TestBeyondTheBaseline:
    def test_a_bound_on_what_the_baseline_does_not_hold(self, released: Path, run: Run) -> None:
        arguments = ("check", "v1", "--baseline", "ranks.json", "--rule")
        assert run(*arguments, "condition_number <= 1e6").code == 0
        ended = run(*arguments, "condition_number <= 10")
        assert ended.code == 1
        assert models.DOWN in ended.out
        before = Path("ranks.json").read_bytes()
        assert run(*arguments, "condition_number <= 10", "--update").code == 0
        assert Path("ranks.json").read_bytes() == before  # its columns are its own

    def test_another_models_names(self, released: Path, here: Path, run: Run) -> None:
        models.save(here / "v2", {f"blk.{name}": w * 2 for name, w in models.model().items()})
        ended = run("check", "v2", "--baseline", "ranks.json")
        assert ended.code == 1
        assert "no name is in both: another model" in ended.out
        assert "--update" not in ended.out

    def test_the_rule_is_told_at_80_columns(
        self, regressed: dict[str, str], monkeypatch: pytest.MonkeyPatch, run: Run
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        ended = run("check", "v2", "--baseline", "ranks.json")
        assert "drop <= 2% + 1" in ended.out


def test_an_adapter_merged_into_its_base(here: Path, run: Run) -> None:
    saved = peft_models.save(here, peft_models.llama(), r=4, target_modules=["v_proj"])
    merged = (str(saved.adapter), "--base", str(saved.base))
    assert run("baseline", *merged, "-o", "ranks.json").code == 0
    assert run("check", *merged, "--baseline", "ranks.json").code == 0
    assert run("check", *merged, "--baseline", "ranks.json", "--headers").code == 0
    assert run("check", str(saved.adapter), "--baseline", "ranks.json").code == 1  # not merged


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("v1", "--baseline", "none.json"), 3, "none.json: no such file; write it with"),
            (("v1", "--baseline", "v1/model.safetensors"), 3, "baseline is not"),
            (("none", "--baseline", "ranks.json"), 3, "none: no such file"),
            (("v1", "--rule", "rank <"), 2, "not understood, expected such as"),
            (("v1", "--rule", "rank: drop <= 1"), 2, "no --baseline"),
            (("v1", "--rule", "rnk >= 1"), 2, "metric 'rnk' is not known; did you mean rank?"),
            (("v1", "--rule", "rank >= 1 for nobody"), 2, "matches no matrix"),
            (("v1", "-o", "x.txt"), 2, "suffix"),
            (("v1", "-o", "nowhere/x.json"), 2, "there is no directory"),
            (("v1", "--include", "nobody"), 2, "matches no matrix"),
        ],
    )
    def test_one_line_and_the_right_code(
        self, released: Path, run: Run, arguments: tuple[str, ...], code: int, message: str
    ) -> None:
        ended = run("check", *arguments)
        assert ended.code == code, ended.err
        assert message in ended.err
        assert ended.out == ""
        assert len(ended.err.splitlines()) == 1

    def test_a_run_is_no_model(self, here: Path, run: Run) -> None:
        (here / "steps").mkdir()
        for step in (1, 2):
            save_file({"w": np.eye(4)}, here / "steps" / f"step-{step}.safetensors")
        ended = run("baseline", "steps", "-o", "ranks.json")
        assert ended.code == 3
        assert "step-2.safetensors" in ended.err
        assert not Path("ranks.json").exists()

    def test_nothing_is_written_over_what_cannot_be_measured(
        self, regressed: dict[str, str], run: Run
    ) -> None:
        before = Path("ranks.json").read_bytes()
        ended = run("baseline", "v2", "-o", "ranks.json")
        assert (ended.code, ended.out) == (3, "")
        assert models.QUERY in ended.err
        assert Path("ranks.json").read_bytes() == before


def test_the_gate_as_a_process(released: Path, here: Path) -> None:
    """What a pipeline sees: the exit code, and output that ends early without a complaint."""
    env = {**os.environ, "XDG_CACHE_HOME": str(here / "cache")}
    command = f"{sys.executable} -m rankscope check v1 --baseline ranks.json"
    done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    cut = f"{command} --format json | head -c 1"
    done = subprocess.run(["sh", "-c", cut], env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
