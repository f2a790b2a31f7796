"""Models against their baselines: what must be found, and what must not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import rankscope
from rankscope import worker
from rankscope.errors import InputRejected, UsageError
from rankscope.gate.findings import Finding
from rankscope.gate.verdict import Verdict
from rankscope.how import How
from tests.gate import models

NO_STORE = How(store=False)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save(tmp_path_factory.mktemp("released") / "v1", models.model())


@pytest.fixture(scope="module")
def ranks(released: Path) -> Path:
    path = released.parent / "ranks.json"
    rankscope.write_baseline(rankscope.baseline(released, how=NO_STORE), path)
    return path


def check(source: Any, baseline: Path | None, *rules: str, **more: Any) -> Verdict:
    return rankscope.check(source, baseline, rules, how=NO_STORE, **more)


def found(verdict: Verdict) -> dict[str, set[str]]:
    """The metrics of the failures by name."""
    result: dict[str, set[str]] = {}
    for one in verdict.failures:
        result.setdefault(one.name, set()).add(one.metric)
    return result


def only(verdict: Verdict) -> Finding:
    (finding,) = verdict.findings
    return finding


class TestNothingChanged:
    def test_the_same_model(self, released: Path, ranks: Path) -> None:
        verdict = check(released, ranks)
        assert verdict.outcome == "pass"
        assert verdict.findings == ()
        assert verdict.unchanged == len(verdict.names) == 16

    def test_saved_again_and_sharded_anew(self, tmp_path: Path, ranks: Path) -> None:
        for shards in (1, 2, 5):
            copy = models.save(tmp_path / f"copy{shards}", models.model(), shards)
            verdict = check(copy, ranks)
            assert (verdict.outcome, verdict.findings, verdict.unchanged) == ("pass", (), 16)

    def test_in_another_file(self, tmp_path: Path, ranks: Path) -> None:
        save_file(models.model(), tmp_path / "another-name.safetensors")
        verdict = check(tmp_path / "another-name.safetensors", ranks)
        assert (verdict.findings, verdict.unchanged) == ((), 16)

    def test_in_another_format(self, tmp_path: Path, ranks: Path, released: Path) -> None:
        weights = models.model()
        np.savez(tmp_path / "model.npz", allow_pickle=False, **weights)
        state = {name: torch.from_numpy(array) for name, array in weights.items()}
        torch.save(state, tmp_path / "model.pt")
        baselines = [json.loads(ranks.read_text())]
        for file in (tmp_path / "model.npz", tmp_path / "model.pt"):
            verdict = check(file, ranks)
            assert (verdict.findings, verdict.unchanged) == ((), 16)
            kept = tmp_path / f"{file.suffix}.json"
            rankscope.write_baseline(rankscope.baseline(file, how=NO_STORE), kept)
            baselines.append(json.loads(kept.read_text()))
        # Not only the same verdict: identical readings, every digit of them.
        assert baselines[0] == baselines[1] == baselines[2]

    def test_in_memory(self, ranks: Path) -> None:
        verdict = check(models.model(), ranks)
        assert (verdict.source, verdict.findings, verdict.unchanged) == ("memory", (), 16)

    def test_as_bfloat16(self, tmp_path: Path, ranks: Path) -> None:
        """Every matrix has changed and stays within the tolerances; the type is told."""
        converted = {k: v.astype(ml_dtypes.bfloat16) for k, v in models.model().items()}
        verdict = check(models.save(tmp_path / "bf16", converted), ranks)
        assert verdict.outcome == "pass"
        assert {one.metric for one in verdict.findings} == {"retyped"}
        assert len(verdict.findings) == 16
        assert verdict.unchanged == 0
        assert verdict.findings[0].sentence == "type was float32, is bfloat16"
        strict = check(tmp_path / "bf16", ranks, "retyped: none")
        assert strict.outcome == "fail"

    def test_as_bfloat16_a_real_loss_is_still_found(self, tmp_path: Path, ranks: Path) -> None:
        weights = models.model()
        weights[models.VALUE] = models.projected(weights[models.VALUE], 0.7)
        converted = {k: v.astype(ml_dtypes.bfloat16) for k, v in weights.items()}
        verdict = check(models.save(tmp_path / "bf16", converted), ranks)
        assert set(found(verdict)) == {models.VALUE}


class TestTypes:
    def test_finer_weights_than_the_baseline_was_made_of(self, tmp_path: Path) -> None:
        """Rounding noise raised the effective rank; that it is gone is no loss."""
        weights = {"w": models.matrix(1024, 1024, 0, decay=3.0)}
        rounded = {name: array.astype(ml_dtypes.bfloat16) for name, array in weights.items()}
        ranks = tmp_path / "ranks.json"
        rankscope.update_baseline(rounded, ranks, how=NO_STORE)
        before = rankscope.baseline(rounded, how=NO_STORE).matrices["w"]["effective_rank"]
        after = rankscope.baseline(weights, how=NO_STORE).matrices["w"]["effective_rank"]
        assert after < 0.95 * before
        assert "effective_rank" not in found(check(weights, ranks)).get("w", set())
        # A rule of one's own is taken at its word, and so is the default one within a type.
        assert "effective_rank" in found(check(weights, ranks, "effective_rank: drop <= 5%"))["w"]
        rankscope.update_baseline(weights, ranks, how=NO_STORE)
        lost = {"w": models.projected(weights["w"], 0.002)}
        assert "effective_rank" in found(check(lost, ranks))["w"]


class TestPlanted:
    def test_each_is_found_and_nothing_else(self, tmp_path: Path, ranks: Path) -> None:
        weights, expected = models.planted()
        verdict = check(models.save(tmp_path / "v2", weights), ranks)
        assert verdict.outcome == "fail"
        failures = found(verdict)
        assert set(failures) == set(expected)
        for name, metric in expected.items():
            assert not metric or metric in failures[name], name
        assert {"rank", "numerical_rank", "effective_rank"} <= failures[models.VALUE]

    def test_a_projection_of_weak_directions_too(self, tmp_path: Path, ranks: Path) -> None:
        """Singular values as i^-2: thirty per cent of them hold next to nothing."""
        weights = models.model()
        weights[models.DOWN] = models.projected(weights[models.DOWN], 0.7)
        verdict = check(models.save(tmp_path / "v2", weights), ranks)
        assert set(found(verdict)) == {models.DOWN}
        assert "numerical_rank" in found(verdict)[models.DOWN]

    def test_sentences(self, tmp_path: Path, ranks: Path) -> None:
        weights, _ = models.planted()
        verdict = check(models.save(tmp_path / "v2", weights), ranks)
        told = {(one.name, one.metric): one.sentence for one in verdict.findings}
        assert told[models.VALUE, "numerical_rank"] == "numerical_rank fell from 64 to 45 (-29.7%)"
        assert told[models.UP, "spectral_norm"] == "spectral_norm rose from 1 to 2 (+100%)"
        assert told[models.QUERY, "status"] == "not measured: holds NaN or infinity"
        assert told[models.GATE, "reshaped"] == "shape was 160x64, is 128x64"
        new = "model.layers.0.mlp.down.weight"
        assert told[models.DOWN, "renamed"] == f"renamed to {new}, content equal"

    def test_the_worst_come_first(self, tmp_path: Path, ranks: Path) -> None:
        weights = models.model()
        weights[models.VALUE] = models.projected(weights[models.VALUE], 0.6)
        weights[models.UP] = models.projected(weights[models.UP], 0.3)
        del weights[models.GATE]
        verdict = check(models.save(tmp_path / "v2", weights), ranks, "retyped: none")
        order = list(dict.fromkeys(one.name for one in verdict.findings))
        assert order == [models.GATE, models.UP, models.VALUE]

    def test_document(self, tmp_path: Path, ranks: Path) -> None:
        weights, _ = models.planted()
        document = check(models.save(tmp_path / "v2", weights), ranks).to_document()
        json.dumps(document, allow_nan=False)
        assert document["verdict"] == "fail"
        one = document["findings"][0]
        assert {"name", "metric", "before", "after", "rule"} <= one.keys()


class TestNames:
    def test_removed(self, tmp_path: Path, ranks: Path) -> None:
        weights = models.model()
        del weights[models.UP]
        finding = only(check(models.save(tmp_path / "v2", weights), ranks))
        assert (finding.name, finding.metric, finding.failure) == (models.UP, "removed", True)
        assert (finding.before, finding.after) == ([160, 64], None)

    def test_added_is_told_and_fails_where_asked(self, tmp_path: Path, ranks: Path) -> None:
        path = models.save(tmp_path / "v2", models.model() | {"extra": np.eye(20)})
        verdict = check(path, ranks)
        assert verdict.outcome == "pass"
        assert (only(verdict).name, only(verdict).metric) == ("extra", "added")
        assert check(path, ranks, "added: none").outcome == "fail"
        assert check(path, ranks, "added: none for *proj*").outcome == "pass"

    def test_tied_is_not_removed(self, tmp_path: Path) -> None:
        """safetensors drops one of two tensors that share memory; torch keeps both."""
        weights = models.model()
        weights[models.HEAD] = weights[models.EMBEDDING]
        both = models.save(tmp_path / "both", weights)
        one = dict(weights)
        del one[models.HEAD]
        single = models.save(tmp_path / "one", one)
        for before, after in ((both, single), (single, both)):
            ranks = tmp_path / f"{before.name}.json"
            rankscope.write_baseline(rankscope.baseline(before, how=NO_STORE), ranks)
            verdict = check(after, ranks)
            assert verdict.outcome == "pass"
            finding = only(verdict)
            assert (finding.name, finding.metric) == (models.HEAD, "tied")
            assert models.EMBEDDING in finding.sentence

    def test_tied_and_trained_on(self, tmp_path: Path) -> None:
        weights = models.model()
        weights[models.HEAD] = weights[models.EMBEDDING]
        ranks = tmp_path / "ranks.json"
        before = models.save(tmp_path / "v1", weights)
        rankscope.write_baseline(rankscope.baseline(before, how=NO_STORE), ranks)
        del weights[models.HEAD]
        weights[models.EMBEDDING] = weights[models.EMBEDDING] * np.float32(1.01)
        verdict = check(models.save(tmp_path / "v2", weights), ranks)
        assert verdict.outcome == "pass"
        assert only(verdict).metric == "tied"

    def test_zeros_are_not_tied_to_each_other(self, tmp_path: Path) -> None:
        weights = {"a": np.zeros((20, 20), np.float32), "b": np.zeros((20, 20), np.float32)}
        ranks = tmp_path / "ranks.json"
        before = models.save(tmp_path / "v1", weights)
        rankscope.write_baseline(rankscope.baseline(before, how=NO_STORE), ranks)
        del weights["b"]
        verdict = check(models.save(tmp_path / "v2", weights), ranks)
        assert found(verdict) == {"b": {"removed"}}

    def test_copied_layers_are_not_tied(self, tmp_path: Path) -> None:
        """A model deepened by repeating its layers: one that is gone is gone."""
        weights = models.model()
        weights[models.UP] = weights[models.UP.replace(".1.", ".0.")]
        ranks = tmp_path / "ranks.json"
        before = models.save(tmp_path / "v1", weights)
        rankscope.write_baseline(rankscope.baseline(before, how=NO_STORE), ranks)
        del weights[models.UP]
        verdict = check(models.save(tmp_path / "v2", weights), ranks)
        assert found(verdict) == {models.UP: {"removed"}}

    def test_two_names_change_places(self, tmp_path: Path, ranks: Path) -> None:
        """Nothing is missing by name, and what the names stand for has changed."""
        weights = models.model()
        up, value = weights[models.UP], weights["model.layers.0.mlp.up_proj.weight"]
        weights[models.UP], weights["model.layers.0.mlp.up_proj.weight"] = value, up
        verdict = check(models.save(tmp_path / "v2", weights), ranks)
        assert verdict.unchanged == 14

    def test_packed_without_scales_is_not_removed_either(self, tmp_path: Path, ranks: Path) -> None:
        weights = models.model()
        weights[models.UP] = weights[models.UP].astype(np.int8)
        verdict = check(models.save(tmp_path / "v2", weights), ranks)
        assert found(verdict) == {models.UP: {"status"}}
        assert "not measured: int8" in only(verdict).sentence


class TestIncomplete:
    def test_a_missing_shard(self, tmp_path: Path, ranks: Path) -> None:
        path = models.save(tmp_path / "v2", models.model(), shards=4)
        (path / "model-00002-of-00004.safetensors").unlink()
        verdict = check(path, ranks)
        assert verdict.outcome == "incomplete"
        assert verdict.findings == ()
        assert len(verdict.lacking) == 5  # a quarter of the 18 tensors, rounded up
        assert "missing" in verdict.lacking[0]["reason"]

    def test_a_failure_beside_it_is_a_failure(self, tmp_path: Path, ranks: Path) -> None:
        weights = models.model()
        weights[models.HEAD] = 3 * weights[models.HEAD]
        path = models.save(tmp_path / "v2", weights, shards=4)
        (path / "model-00002-of-00004.safetensors").unlink()
        verdict = check(path, ranks)
        assert verdict.outcome == "fail"
        assert verdict.lacking

    def test_what_cannot_be_measured_is_not_new(self, tmp_path: Path, ranks: Path) -> None:
        weights = models.model()
        weights[models.VALUE] = np.full((64, 64), 1e308)  # finite, and its norm is not
        verdict = check(models.save(tmp_path / "v2", weights), ranks, "added: none")
        assert verdict.outcome == "incomplete"
        assert [row["name"] for row in verdict.lacking] == [models.VALUE]
        assert (only(verdict).metric, only(verdict).failure) == ("retyped", False)

    def test_its_shape_is_compared(self, tmp_path: Path, ranks: Path) -> None:
        weights = models.model()
        weights[models.VALUE] = np.full((64, 32), np.nan, np.float32)
        verdict = check(models.save(tmp_path / "v2", weights), ranks, "status: any")
        assert found(verdict) == {models.VALUE: {"reshaped"}}

    def test_is_no_baseline(self, tmp_path: Path) -> None:
        path = models.save(tmp_path / "v2", models.model(), shards=4)
        (path / "model-00002-of-00004.safetensors").unlink()
        with pytest.raises(InputRejected, match=r"no baseline without it: .* and 4 more"):
            rankscope.baseline(path, how=NO_STORE)

    def test_neither_is_nan(self, tmp_path: Path) -> None:
        weights, _ = models.planted()
        with pytest.raises(InputRejected, match="NaN") as caught:
            rankscope.baseline(models.save(tmp_path / "v2", weights), how=NO_STORE)
        assert caught.value.tensor == models.QUERY


class TestWithoutBaseline:
    def test_bounds(self, released: Path) -> None:
        assert check(released, None, "effective_rank >= 0.4 * min(shape)").outcome == "fail"
        failing = found(check(released, None, "effective_rank >= 0.4 * min(shape)"))
        oracle = {}
        for name, weights in models.model().items():
            if weights.ndim == 2:
                sigma = np.linalg.svd(weights.astype(float), compute_uv=False)
                p = sigma / sigma.sum()
                oracle[name] = np.exp(-(p * np.log(p)).sum()) / len(sigma)
        assert set(failing) == {name for name, share in oracle.items() if share < 0.4}
        assert failing

    def test_nothing_asked_is_whether_all_can_be_measured(self, tmp_path: Path) -> None:
        weights, _ = models.planted()
        verdict = check(models.save(tmp_path / "v2", weights), None)
        assert found(verdict) == {models.QUERY: {"status"}}

    def test_globs(self, released: Path) -> None:
        verdict = check(
            released, None, "rank >= 1 * min(shape) for *v_proj*", "rank >= 999 for lm*"
        )
        assert set(found(verdict)) == {models.HEAD}

    @pytest.mark.parametrize(
        ("rules", "broken"),
        [
            (("rank@0.3 >= 2",), {"rank@0.3"}),
            (("rank@3e-1 <= 1",), set()),
            (("rank@0.3 <= 1", "rank >= 4"), {"rank@0.001"}),  # at the eps that is settled
            (("rank@0.001 >= 4",), {"rank"}),
            (("rank@0.3 >= 2", "rank@0.1 >= 3", "rank@0.30: any for w"), {"rank@0.1"}),
            (("rank@0.3 >= 2", "stable_rank >= 3"), {"rank@0.3", "stable_rank"}),
        ],
    )
    def test_a_rule_names_its_eps(self, rules: tuple[str, ...], broken: set[str]) -> None:
        """Above 1e-3 of the norm lie three of these values, above 0.1 two, above 0.3 one."""
        weights = {"w": np.diag([1.0, 0.2, 0.01, 1e-5])}
        assert found(check(weights, None, *rules)).get("w", set()) == broken

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            ("effective_rank@0.3 >= 2", "effective_rank@0.3 is not asked for"),
            ("rank@x >= 2", "rank@x is not asked for; did you mean rank"),
            ("rank@-1 >= 2", "eps is -1.0, expected a number of at least 0"),
            ("rank@nan >= 2", "eps is nan, expected"),
        ],
    )
    def test_an_eps_that_makes_no_sense(self, rule: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            check({"w": np.eye(4)}, None, rule)

    def test_of_several_eps_a_rule_says_which(self) -> None:
        with pytest.raises(UsageError, match=r"rank is not asked for; did you mean rank@0\."):
            check({"w": np.eye(4)}, None, "rank >= 2", eps=(0.1, 0.2))

    def test_an_undefined_reading_keeps_no_bound(self) -> None:
        verdict = check({"w": np.zeros((4, 4))}, None, "effective_rank >= 0")
        assert only(verdict).after is None
        assert only(verdict).failure
        assert "undefined" in only(verdict).sentence


class TestUndefined:
    def test_what_had_a_value_and_has_none(self, tmp_path: Path, ranks: Path) -> None:
        weights = models.model()
        weights[models.UP] = np.zeros_like(weights[models.UP])
        verdict = check(models.save(tmp_path / "v2", weights), ranks)
        assert {"rank", "effective_rank", "spectral_norm"} <= found(verdict)[models.UP]
        told = {one.metric: one.sentence for one in verdict.failures}
        assert told["effective_rank"].startswith("effective_rank is undefined (")


class TestSelection:
    def test_the_baselines_own_holds(self, tmp_path: Path, released: Path) -> None:
        ranks = tmp_path / "ranks.json"
        selection = rankscope.Selection(include=("*mlp*",), exclude=("*down*",))
        kept = rankscope.baseline(released, selection=selection, how=NO_STORE)
        rankscope.write_baseline(kept, ranks)
        assert len(kept.matrices) == 4
        verdict = check(released, ranks)
        assert (verdict.findings, len(verdict.names)) == ((), 4)

    def test_a_narrower_one_asks_for_nothing_else(self, tmp_path: Path, ranks: Path) -> None:
        weights, _ = models.planted()
        path = models.save(tmp_path / "v2", weights)
        verdict = check(path, ranks, selection=rankscope.Selection(include=("*v_proj*",)))
        assert set(found(verdict)) == {models.VALUE}
        assert len(verdict.names) == 2

    def test_a_rule_about_nothing_is_a_mistake(self, released: Path, ranks: Path) -> None:
        with pytest.raises(UsageError, match=r"rule for '\*w_proj\*' matches no matrix"):
            check(released, ranks, "rank: any for *w_proj*")


class TestHeaders:
    def test_structure_is_compared_and_no_weight_read(self, tmp_path: Path, ranks: Path) -> None:
        weights, _ = models.planted()
        weights[models.HEAD] = weights[models.HEAD].astype(np.float16)
        path = models.save(tmp_path / "v2", weights)
        verdict = rankscope.check_headers(path, ranks)
        kinds = {(one.name, one.metric, one.failure) for one in verdict.findings}
        new = "model.layers.0.mlp.down.weight"
        assert kinds == {
            (models.GATE, "reshaped", True),
            (models.DOWN, "removed", True),  # content is not looked at
            (new, "added", False),
            (models.HEAD, "retyped", False),
        }

    def test_works_on_a_sparse_file_of_terabytes(self, tmp_path: Path) -> None:
        side = 2**20
        header = {"w": {"dtype": "F32", "shape": [side, side], "data_offsets": [0, 4 * side**2]}}
        text = json.dumps(header).encode()
        path = tmp_path / "m.safetensors"
        with open(path, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + 4 * side**2)
        ranks = tmp_path / "ranks.json"
        small = {"w": np.eye(3, dtype=np.float32)}
        save_file(small, tmp_path / "small.safetensors")
        kept = rankscope.baseline(tmp_path / "small.safetensors", how=NO_STORE)
        rankscope.write_baseline(kept, ranks)
        assert only(rankscope.check_headers(path, ranks)).metric == "reshaped"

    @pytest.mark.parametrize("rule", ["rank >= 1000", "rank: drop <= 1%", "rank: any"])
    def test_a_rule_on_readings_is_refused(self, released: Path, ranks: Path, rule: str) -> None:
        with pytest.raises(UsageError, match="is on a reading, and headers hold none"):
            rankscope.check_headers(released, ranks, rule)
        assert rankscope.check_headers(released, ranks, "status: any").left_out == ()

    def test_what_is_no_rule_is_told_first(self, released: Path, ranks: Path) -> None:
        with pytest.raises(UsageError, match="metric 'rnk' is not known"):
            rankscope.check_headers(released, ranks, "rnk >= 1")


class TestStore:
    def test_a_warm_store_reads_no_weights(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = models.save(tmp_path / "v1", models.model())
        os.utime(path / "model.safetensors", (1e9, 1e9))
        how = How(store=tmp_path / "store", workers=1)
        ranks = tmp_path / "ranks.json"
        rankscope.write_baseline(rankscope.baseline(path, how=how), ranks)
        monkeypatch.setattr(worker, "open_checkpoint", None)  # nothing is opened
        verdict = rankscope.check(path, ranks, how=how)
        assert (verdict.outcome, verdict.unchanged) == ("pass", 16)


def test_needs_no_torch(released: Path, ranks: Path) -> None:
    code = (
        "import sys, rankscope; v = rankscope.check(sys.argv[1], sys.argv[2]);"
        "assert v.outcome == 'pass'; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, released, ranks], check=True, timeout=60)


class TestShown:
    def test_in_a_terminal_a_notebook_and_files(self, tmp_path: Path, ranks: Path) -> None:
        weights, expected = models.planted()
        verdict = rankscope.check(models.save(tmp_path / "v2", weights), ranks, how=NO_STORE)
        assert "fails: 5 of 16 matrices break a rule" in str(verdict)
        assert "fails: 5 of 16" in repr(verdict)
        assert "<table" in verdict._repr_html_()
        for suffix in (".json", ".csv", ".md", ".html", ".xml", ".sarif"):
            verdict.save(tmp_path / f"verdict{suffix}")
            text = (tmp_path / f"verdict{suffix}").read_text().replace("\\", "")
            assert all(name in text for name in expected), suffix

    def test_a_baseline_of_weights_in_memory(self, tmp_path: Path, ranks: Path) -> None:
        rankscope.update_baseline(models.model(), tmp_path / "ranks.json", how=NO_STORE)
        assert (tmp_path / "ranks.json").read_bytes() == ranks.read_bytes()

    def test_an_update_keeps_what_was_asked(self, tmp_path: Path, released: Path) -> None:
        place = tmp_path / "ranks.json"
        selection = rankscope.Selection(include=("*mlp*",))
        kept = rankscope.baseline(released, metrics=("rank",), eps=(0.1, 0.2), selection=selection)
        rankscope.write_baseline(kept, place)
        before = place.read_bytes()
        rankscope.update_baseline(models.model(), place, how=NO_STORE)
        assert place.read_bytes() == before
