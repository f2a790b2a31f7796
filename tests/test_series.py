"""Directories as trainers leave them: which snapshots they hold, in which order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rankscope import analyze
from rankscope.checkpoints import open_checkpoint
from rankscope.errors import InputRejected
from rankscope.grouping import group_files
from rankscope.how import How
from rankscope.series import Series, discover, single
from rankscope.stepnames import is_unfinished, step_in
from rankscope.writing import atomic_path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(series: Series) -> list[tuple[str, int | None]]:
    """Paths below the series' own, and steps."""
    return [
        (str(one.path.relative_to(series.path)) if one.path != series.path else "", one.step)
        for one in series.snapshots
    ]


def skipped(series: Series) -> dict[str, str]:
    return {item.name: item.reason for item in series.skipped}


class TestStepIn:
    @pytest.mark.parametrize(
        ("name", "step"),
        [
            ("step-00001234.safetensors", 1234),
            ("checkpoint-500", 500),
            ("epoch=3-step=100.ckpt", 100),
            ("epoch=3-step=100-v1.ckpt", 100),
            ("step=100-epoch=3.ckpt", 100),
            ("step1000", 1000),
            ("global_step1000", 1000),
            ("model_step_70.pt", 70),
            ("globalStep70.pt", 70),
            ("modelEpoch7.pt", 7),
            ("STEP12.pt", 12),
            ("steps-12.pt", 12),
            ("step 12.pt", 12),
            ("iter_0004000.pth", 4000),
            ("model_iter5.pt", 5),
            ("iteration.12.npz", 12),
            ("epochs_10.h5", 10),
            ("ckpt-5.pt", 5),
            ("2024-01-31-step7.pt", 7),
            ("resnet18-epoch3.pt", 3),
            ("checkpoint-500-step-600", 600),
            ("step0", 0),
            ("step1000-tokens4B", 1000),
            ("OLMo-1B@step1000-tokens4B", 1000),
            ("step3@step1000", 1000),  # a model that is called so
            ("step3@main", 3),
            ("step-5@2x.pt", 5),
        ],
    )
    def test_a_word_and_a_number(self, name: str, step: int) -> None:
        assert step_in(name) == step

    @pytest.mark.parametrize(
        "name",
        [
            "resnet18.pt",
            "footstep3.pt",
            "misstep-3.pt",
            "mystep3.pt",
            "arbiter5.pt",
            "model_iter",
            "model_iter.pt",
            "bert-epochs-of-3",
            "stepsize3.pt",
            "criterion3.pt",
            "checkpoint_last.pt",
            "checkpoint.pt",
            "llama-3-8b.safetensors",
            "sdxl_4step.safetensors",
            "step",
            "step-.pt",
            "",
        ],
    )
    def test_no_step(self, name: str) -> None:
        assert step_in(name) is None


class TestUnfinished:
    @pytest.mark.parametrize(
        "name",
        [
            ".hidden.safetensors",
            ".step-3.safetensors.9-01234567.tmp",
            "tmp-checkpoint-500",
            "checkpoint-500.tmp",
            "step-3.tmp.safetensors",
            "step3.pt.part",
            "step3.pt~",
            "model.safetensors.incomplete",
        ],
    )
    def test_temporary(self, name: str) -> None:
        assert is_unfinished(name)

    @pytest.mark.parametrize("name", ["step-3.pt", "tmpo-step3.pt", "partial-step3.pt", "attmp3"])
    def test_not_temporary(self, name: str) -> None:
        assert not is_unfinished(name)


class TestLayouts:
    """What the run directory's description promises."""

    def test_a_run_of_ours(self, tmp_path: Path) -> None:
        names = [f"snapshots/step-{step:08d}.safetensors" for step in (100, 9, 0)]
        touch(tmp_path / "run.json", *(tmp_path / name for name in names))
        touch(tmp_path / "log.jsonl", tmp_path / "spectra" / "spectra.sqlite3")
        series = discover(tmp_path)
        assert found(series) == [(names[2], 0), (names[1], 9), (names[0], 100)]
        assert series.run == tmp_path
        assert series.skipped == ()

    def test_a_run_of_ours_in_hdf5(self, tmp_path: Path) -> None:
        touch(tmp_path / "run.json", tmp_path / "snapshots/step-00000001.h5")
        assert found(discover(tmp_path)) == [("snapshots/step-00000001.h5", 1)]

    def test_a_run_whose_record_is_not_written_yet(self, tmp_path: Path) -> None:
        touch(tmp_path / "snapshots/step-1.safetensors")
        assert discover(tmp_path).run is None
        assert len(discover(tmp_path).snapshots) == 1

    @pytest.mark.parametrize("files", [["run.json"], ["run.json", "snapshots/.step-1.h5.9.tmp"]])
    def test_a_run_that_has_just_begun(self, tmp_path: Path, files: list[str]) -> None:
        touch(*(tmp_path / file for file in files))
        with pytest.raises(InputRejected, match="without a snapshot in snapshots/ yet"):
            discover(tmp_path)

    @pytest.mark.parametrize(
        "layout",
        [
            "checkpoint-{}/model.safetensors",  # HF Trainer
            "checkpoint-{}/pytorch_model.bin",
            "checkpoint-{}/model.safetensors.index.json",
            "checkpoint-{}/adapter_model.safetensors",  # PEFT
            "step{}/pytorch_model.bin",  # Pythia
            "global_step{}/weights.pt",  # a directory with one file of weights
            "epoch=3-step={}.ckpt",  # Lightning
            "model-step-{}.safetensors",
            "ckpt_{}.pt",
            "iter_{}.pth",
            "weights_{}.npz",
            "{}.safetensors",
        ],
    )
    def test_ordered_by_number_not_by_text(self, tmp_path: Path, layout: str) -> None:
        steps = (1000, 200, 30, 0)
        touch(*(tmp_path / layout.format(step) for step in steps))
        series = discover(tmp_path)
        assert found(series) == [(layout.format(step), step) for step in sorted(steps)]
        assert series.skipped == ()

    def test_numbers_with_and_without_zeros(self, tmp_path: Path) -> None:
        touch(*(tmp_path / f"step{step}.pt" for step in ("0100", "9", "00020")))
        assert [one.step for one in discover(tmp_path).snapshots] == [9, 20, 100]

    def test_what_a_trainer_keeps_beside_the_weights(self, tmp_path: Path) -> None:
        for step in (5, 10):
            folder = tmp_path / f"checkpoint-{step}"
            touch(*(folder / name for name in ("model.safetensors", "optimizer.pt", "config.json")))
        touch(tmp_path / "logs" / "events")
        assert found(discover(tmp_path)) == [
            ("checkpoint-5/model.safetensors", 5),
            ("checkpoint-10/model.safetensors", 10),
        ]

    def test_the_model_with_its_checkpoints_beside(self, tmp_path: Path) -> None:
        touch(tmp_path / "model.safetensors", tmp_path / "training_args.bin")
        touch(*(tmp_path / f"checkpoint-{step}" / "model.safetensors" for step in (5, 10)))
        series = discover(tmp_path)
        assert [one.step for one in series.snapshots] == [5, 10]
        assert skipped(series) == {
            "model.safetensors": "final weights beside checkpoints; give its path"
        }

    def test_the_model_with_numbered_files_beside(self, tmp_path: Path) -> None:
        touch(*(tmp_path / name for name in ("model.safetensors", "step1.pt", "step2.pt")))
        series = discover(tmp_path)
        assert found(series) == [("step1.pt", 1), ("step2.pt", 2)]
        assert list(skipped(series)) == ["model.safetensors"]

    def test_one_numbered_file_beside_a_model_is_no_series(self, tmp_path: Path) -> None:
        touch(tmp_path / "model.safetensors", tmp_path / "optimizer-step7.pt")
        assert found(discover(tmp_path)) == [("model.safetensors", None)]

    def test_files_beside_numbered_directories_are_listed(self, tmp_path: Path) -> None:
        touch(tmp_path / "checkpoint-5" / "model.safetensors", tmp_path / "step9.pt")
        series = discover(tmp_path)
        assert [one.step for one in series.snapshots] == [5]
        assert skipped(series) == {"step9.pt": "a file beside numbered directories; give its path"}

    def test_a_model_directory(self, tmp_path: Path) -> None:
        for name in ("plain", "checkpoint-500"):
            touch(tmp_path / name / "model.safetensors", tmp_path / name / "tokenizer.json")
        assert found(discover(tmp_path / "plain")) == [("model.safetensors", None)]
        assert found(discover(tmp_path / "checkpoint-500")) == [("model.safetensors", 500)]

    def test_a_file(self, tmp_path: Path) -> None:
        touch(tmp_path / "resnet18.pt", tmp_path / "step7.pt")
        assert found(discover(tmp_path / "resnet18.pt")) == [("", None)]
        assert found(discover(str(tmp_path / "step7.pt"))) == [("", 7)]


class TestOddsAndEnds:
    def test_the_same_step_twice(self, tmp_path: Path) -> None:
        touch(*(tmp_path / f"epoch=1-step={name}.ckpt" for name in ("10", "10-v1", "20")))
        series = discover(tmp_path)
        assert found(series) == [("epoch=1-step=10-v1.ckpt", 10), ("epoch=1-step=20.ckpt", 20)]
        assert skipped(series) == {
            "epoch=1-step=10.ckpt": "the same step as epoch=1-step=10-v1.ckpt"
        }

    def test_the_same_step_in_two_directories(self, tmp_path: Path) -> None:
        touch(*(tmp_path / f"checkpoint-{name}" / "model.safetensors" for name in ("5", "05")))
        assert skipped(discover(tmp_path)) == {
            "checkpoint-5/model.safetensors": "the same step as checkpoint-05/model.safetensors"
        }

    def test_files_without_a_step_among_others(self, tmp_path: Path) -> None:
        touch(*(tmp_path / name for name in ("last.ckpt", "step1.ckpt", "step2.ckpt", "notes.md")))
        series = discover(tmp_path)
        assert [one.step for one in series.snapshots] == [1, 2]
        assert skipped(series) == {"last.ckpt": "no step in its name, unlike its neighbours"}

    def test_a_final_file_among_numbers(self, tmp_path: Path) -> None:
        touch(*(tmp_path / name for name in ("w-9.npz", "w-10.npz", "final.npz")))
        series = discover(tmp_path)
        assert found(series) == [("w-9.npz", 9), ("w-10.npz", 10)]
        assert list(skipped(series)) == ["final.npz"]

    def test_two_families_of_numbers_have_no_steps(self, tmp_path: Path) -> None:
        touch(*(tmp_path / name for name in ("a-1.npz", "a-2.npz", "b-1.npz", "b-2.npz")))
        assert [one.step for one in discover(tmp_path).snapshots] == [None] * 4

    def test_files_that_nothing_orders(self, tmp_path: Path) -> None:
        touch(*(tmp_path / name for name in ("encoder.pt", "decoder.pt")))
        assert found(discover(tmp_path)) == [("decoder.pt", None), ("encoder.pt", None)]

    def test_numbered_directories_without_a_model_are_listed(self, tmp_path: Path) -> None:
        touch(tmp_path / "checkpoint-5" / "model.safetensors")
        touch(*(tmp_path / "checkpoint-10" / name for name in ("rank_0.pt", "rank_1.pt")))
        (tmp_path / "checkpoint-15").mkdir()
        series = discover(tmp_path)
        assert [one.step for one in series.snapshots] == [5]
        reason = "holds no model, or several files of weights"
        assert skipped(series) == {"checkpoint-10": reason, "checkpoint-15": reason}

    @pytest.mark.parametrize("place", ["", "snapshots"])
    def test_what_is_being_written_is_no_snapshot(self, tmp_path: Path, place: str) -> None:
        folder = tmp_path / place
        touch(folder / "step-1.safetensors", folder / "step-2.safetensors")
        touch(folder / ".step-3.safetensors.1-01234567.tmp")
        touch(folder / "tmp-checkpoint-4" / "model.safetensors", folder / ".checkpoint-6" / "m.pt")
        with atomic_path(folder / "step-5.safetensors") as inner:
            inner.write_bytes(b"half")
            assert [one.step for one in discover(tmp_path).snapshots] == [1, 2]
            assert [one.step for one in discover(folder).snapshots] == [1, 2]
        assert [one.step for one in discover(folder).snapshots] == [1, 2, 5]

    def test_shards_without_their_index(self, tmp_path: Path) -> None:
        touch(*(tmp_path / f"model-0000{i}-of-00002.safetensors" for i in (1, 2)))
        with pytest.raises(InputRejected, match=r"holds shards without an index, expected a \*"):
            discover(tmp_path)

    def test_links_are_followed(self, tmp_path: Path) -> None:
        touch(tmp_path / "blobs" / "x", tmp_path / "blobs" / "y")
        (tmp_path / "runs").mkdir()
        for step, blob in ((1, "x"), (2, "y")):
            (tmp_path / "runs" / f"step{step}.pt").symlink_to(f"../blobs/{blob}")
        (tmp_path / "runs" / "step3.pt").symlink_to("../blobs/gone")
        assert [one.step for one in discover(tmp_path / "runs").snapshots] == [1, 2]


class TestTrainersFolders:
    """What the libraries write, by the names that they give."""

    TRAINER = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")
    DCP = (".metadata", "__0_0.distcp", "__1_0.distcp")

    def folder(self, path: Path, *names: str) -> Path:
        touch(*(path / name for name in names))
        return path

    def why(self, path: Path) -> str:
        """Why a folder is no model, asked in both ways that a command may."""
        with pytest.raises(InputRejected) as caught:
            open_checkpoint(path)
        with pytest.raises(InputRejected) as again:
            discover(path)
        assert caught.value.reason == again.value.reason
        return caught.value.reason

    @pytest.mark.parametrize("name", ["step-{}", "checkpoint-{}", "epoch=3-step={}.ckpt"])
    def test_distributed_checkpoints_are_snapshots(self, tmp_path: Path, name: str) -> None:
        """torchtitan's, anybody's, and Lightning's under FSDP, which has one more file."""
        for step in (1000, 500):
            self.folder(tmp_path / name.format(step), *self.DCP, "meta.pt")
        series = discover(tmp_path)
        assert found(series) == [(f"{name.format(step)}/.metadata", step) for step in (500, 1000)]
        assert series.skipped == ()
        assert not series.counts_epochs
        one = tmp_path / name.format(500)
        assert found(discover(one)) == [(".metadata", 500)]
        assert [one.step for one in group_files([one])[0].snapshots] == [500]

    def test_a_distributed_checkpoint_without_its_metadata_is_incomplete(
        self, tmp_path: Path
    ) -> None:
        self.folder(tmp_path / "step-1", *self.DCP)
        self.folder(tmp_path / "step-2", *self.DCP[1:])
        self.folder(tmp_path / "step-3", "__0.metadata", *self.DCP[1:])
        series = discover(tmp_path)
        assert [one.step for one in series.snapshots] == [1]
        assert skipped(series) == {
            "step-2": "incomplete: 2 .distcp files without .metadata, which is written last: "
            "the save was cut short, or still runs",
            "step-3": "each rank has saved by itself (__0.metadata), expected one .metadata",
        }
        assert self.why(tmp_path / "step-2") == skipped(series)["step-2"]

    def test_a_series_with_nothing_else_says_so(self, tmp_path: Path) -> None:
        self.folder(tmp_path / "step-2", *self.DCP[1:])
        with pytest.raises(InputRejected, match="holds no snapshot; step-2: incomplete: 2"):
            discover(tmp_path)

    def test_a_hidden_file_called_metadata_is_no_checkpoint(self, tmp_path: Path) -> None:
        self.folder(tmp_path, ".metadata", "w.pt")
        assert found(discover(tmp_path)) == [("w.pt", None)]

    def test_hugging_face_trainer(self, tmp_path: Path) -> None:
        for step in (1, 2):
            self.folder(tmp_path / f"checkpoint-{step}", "model.safetensors", *self.TRAINER)
        # Killed while it wrote the optimiser's state: the weights are whole, and written before.
        self.folder(tmp_path / "checkpoint-1", "trainer_state.json")
        self.folder(tmp_path / "checkpoint-3", *self.TRAINER)
        self.folder(tmp_path / "checkpoint-4", *self.TRAINER, "trainer_state.json")
        self.folder(tmp_path / "checkpoint-5", "model-00001-of-00002.safetensors")
        self.folder(tmp_path / "tmp-checkpoint-6", "model.safetensors")
        self.folder(tmp_path, "training_args.bin")
        series = discover(tmp_path)
        assert [one.step for one in series.snapshots] == [1, 2]
        assert skipped(series) == {
            "checkpoint-3": "incomplete: optimizer.pt and neither weights nor "
            "trainer_state.json, which comes last",
            "checkpoint-4": "incomplete: trainer_state.json and no weights: removed, or saved "
            "elsewhere",
            "checkpoint-5": "holds shards without an index, expected a *.index.json too",
        }
        for step in (3, 4):
            assert (
                self.why(tmp_path / f"checkpoint-{step}") == skipped(series)[f"checkpoint-{step}"]
            )

    def test_hugging_face_trainer_under_fsdp(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path / "checkpoint-1", *self.TRAINER, "trainer_state.json")
        inner = self.folder(folder / "pytorch_model_fsdp_0", *self.DCP[1:])
        self.folder(folder / "optimizer_0", *self.DCP)
        assert self.why(folder).startswith("pytorch_model_fsdp_0: incomplete: 2 .distcp files")
        touch(inner / ".metadata")
        assert found(discover(tmp_path)) == [("checkpoint-1/pytorch_model_fsdp_0/.metadata", 1)]
        self.folder(folder / "pytorch_model_fsdp_1", *self.DCP)
        assert self.why(folder) == ("holds 2 models, expected one of them: pytorch_model_fsdp_0")

    def test_accelerate(self, tmp_path: Path) -> None:
        state = ("optimizer.bin", "scheduler.bin", "random_states_0.pkl")
        for step, model in enumerate(("model.safetensors", "pytorch_model_fsdp.bin", "m.pt")):
            self.folder(tmp_path / f"checkpoint_{step}", model, *state)
        assert [one.path.name for one in discover(tmp_path).snapshots] == [
            *("model.safetensors", "pytorch_model_fsdp.bin", "m.pt")
        ]
        assert self.why(self.folder(tmp_path / "none", *state)).startswith("incomplete: ")

    def test_deepspeed(self, tmp_path: Path) -> None:
        optimiser = "zero_pp_rank_0_mp_rank_00_optim_states.pt"
        self.folder(tmp_path, "latest", "zero_to_fp32.py")
        self.folder(tmp_path / "global_step1", "mp_rank_00_model_states.pt", optimiser)
        self.folder(tmp_path / "global_step2", f"bf16_{optimiser}")
        pieces = [f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in range(2)]
        self.folder(tmp_path / "global_step3", optimiser, *pieces)
        ranks = [f"mp_rank_0{rank}_model_states.pt" for rank in range(2)]
        self.folder(tmp_path / "global_step4", optimiser, *ranks)
        series = discover(tmp_path)
        assert found(series) == [("global_step1/mp_rank_00_model_states.pt", 1)]
        told = skipped(series)
        assert told["global_step2"].startswith("incomplete: DeepSpeed's optimiser states without")
        assert "ZeRO-3" in told["global_step3"]
        assert "zero_to_fp32.py" in told["global_step3"]
        assert "2 tensor-parallel ranks" in told["global_step4"]
        for step in (2, 3, 4):
            assert self.why(tmp_path / f"global_step{step}") == told[f"global_step{step}"]
        trainers = tmp_path / "checkpoint-3"
        self.folder(trainers, "trainer_state.json", "latest")
        (tmp_path / "global_step3").rename(trainers / "global_step3")
        assert "checkpoint-3" in (told := skipped(discover(tmp_path)))
        assert told["checkpoint-3"].startswith("global_step3: DeepSpeed ZeRO-3")

    def test_a_trainers_state_is_no_snapshot(self, tmp_path: Path) -> None:
        self.folder(tmp_path, "step1.pt", "step2.pt", *self.TRAINER)
        series = discover(tmp_path)
        assert [one.step for one in series.snapshots] == [1, 2]
        assert skipped(series) == dict.fromkeys(self.TRAINER, "a trainer's state")


class TestSingle:
    """What `check`, `baseline` and `diff` take a path for."""

    @pytest.mark.parametrize(
        ("files", "model", "step"),
        [
            (["m/step7.pt"], "m/step7.pt", 7),
            (["m/model.safetensors"], "m", None),
            (["m/model.safetensors", "m/checkpoint-5/model.safetensors"], "m", None),
            (["m/model.safetensors", "m/step1.pt", "m/step2.pt"], "m", None),
            (["checkpoint-5/model.safetensors", "checkpoint-5/optimizer.pt"], "checkpoint-5", 5),
            (["step-5/.metadata", "step-5/__0_0.distcp"], "step-5", 5),
            (["m/weights.pt", "m/notes.md"], "m", None),
            (["m/checkpoint-5/model.safetensors"], "m", 5),
            (["m/run.json", "m/snapshots/step-3.h5"], "m", 3),
        ],
    )
    def test_model(self, tmp_path: Path, files: list[str], model: str, step: int | None) -> None:
        touch(*(tmp_path / file for file in files))
        series = single(tmp_path / model)
        assert series.path == tmp_path / model
        assert [one.path for one in series.snapshots] == [
            tmp_path / files[-1 if "run" in files[0] else 0]
        ]
        assert [one.step for one in series.snapshots] == [step]

    @pytest.mark.parametrize(
        ("files", "count", "last"),
        [
            (["step9.pt", "step10.pt"], 2, "step10.pt"),
            (["a.pt", "b.pt", "c.pt"], 3, "c.pt"),
            (
                ["run.json", "snapshots/step-9.h5", "snapshots/step-10.h5"],
                2,
                "snapshots/step-10.h5",
            ),
            (["step-9/.metadata", "step-9/__0_0.distcp", "step-10/w.pt"], 2, "step-10/w.pt"),
            (["step-8/w.pt", "step-9/.metadata", "step-9/__0_0.distcp"], 2, "step-9"),
            (["last.ckpt", "step1.ckpt"], 2, "step1.ckpt"),
            (["final.pt", "checkpoint-5/model.safetensors"], 2, "checkpoint-5/model.safetensors"),
        ],
    )
    def test_of_several_the_last_is_named(
        self, tmp_path: Path, files: list[str], count: int, last: str
    ) -> None:
        touch(*(tmp_path / file for file in files))
        with pytest.raises(InputRejected) as caught:
            single(tmp_path)
        assert caught.value.reason == (
            f"holds {count} snapshots, expected one: give its path, as {tmp_path / last}"
        )

    def test_what_it_names_can_be_given(self, tmp_path: Path) -> None:
        touch(
            *(tmp_path / f"step-{i}" / name for i in (1, 2) for name in (".metadata", "0.distcp"))
        )
        with pytest.raises(InputRejected) as caught:
            single(tmp_path)
        assert single(caught.value.reason.rpartition(" ")[2]).snapshots[0].step == 2

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputRejected, match="no such file or directory"):
            single(tmp_path / "gone")


class TestNothingThere:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("gone", "no such file or directory"),
            ("file/below", "cannot be opened: Not a directory"),
            ("x" * 5000, "cannot be opened: File name too long"),
            ("a\0b", "cannot be opened: embedded null byte"),
            ("loop", "cannot be opened: Too many levels of symbolic links"),
            ("dangling", "no such file or directory"),
            ("empty", "holds no weights, expected files ending in .safetensors, "),
            ("text", "holds no weights, expected files ending in .safetensors, "),
        ],
    )
    @pytest.mark.parametrize("ask", [discover, lambda path: group_files([path])])
    def test_is_said(
        self, tmp_path: Path, name: str, reason: str, ask: Callable[[Path], object]
    ) -> None:
        touch(tmp_path / "file", tmp_path / "text" / "notes.md")
        (tmp_path / "empty").mkdir()
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "dangling").symlink_to("gone")
        with pytest.raises(InputRejected) as caught:
            ask(tmp_path / name)
        assert caught.value.reason.startswith(reason)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, tmp_path: Path) -> None:
        tmp_path.chmod(0)
        try:
            with pytest.raises(InputRejected, match="cannot be listed: Permission denied"):
                discover(tmp_path)
        finally:
            tmp_path.chmod(0o700)


class TestGroupFiles:
    def steps(self, *paths: Path) -> list[list[int | None]]:
        return [[one.step for one in series.snapshots] for series in group_files(paths)]

    def test_numbered_files_of_one_directory_are_a_series(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"step{step}.pt" for step in (10, 9, 100)]
        touch(*paths)
        (series,) = group_files(paths)
        assert series.path == tmp_path
        assert [one.step for one in series.snapshots] == [9, 10, 100]

    def test_so_are_checkpoint_directories(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"checkpoint-{step}" for step in (1000, 500)]
        touch(*(path / "model.safetensors" for path in paths))
        assert self.steps(*paths) == [[500, 1000]]

    def test_a_file_given_twice_counts_once(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"step{step}.pt" for step in (1, 2)]
        touch(*paths, tmp_path / "x.pt")
        assert self.steps(*paths, paths[0]) == [[1, 2]]
        assert self.steps(tmp_path / "x.pt", tmp_path / "x.pt") == [[None]]

    def test_models_of_two_names_are_no_series(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"{name}-step5.pt" for name in ("adam", "sgd")]
        touch(*paths)
        assert self.steps(*paths) == [[5], [5]]

    def test_none_is_dropped_for_having_the_same_step(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"resnet{depth}-step5.pt" for depth in (18, 50)]
        touch(*paths)
        assert self.steps(*paths) == [[5], [5]]

    def test_files_of_two_directories_are_two_series(self, tmp_path: Path) -> None:
        paths = [tmp_path / run / f"step{step}.pt" for step in (1, 2) for run in "ab"]
        touch(*paths)
        found = group_files(paths)
        assert [series.path for series in found] == [tmp_path / "a", tmp_path / "b"]
        assert self.steps(*paths) == [[1, 2], [1, 2]]

    def test_unnumbered_files_are_each_their_own(self, tmp_path: Path) -> None:
        paths = [tmp_path / name for name in ("b.pt", "a.pt")]
        touch(*paths)
        assert [series.path for series in group_files(paths)] == paths

    def test_runs_named_by_a_step_stay_runs(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"step{i}" for i in (1, 2)]
        for path in paths:
            touch(path / "run.json", path / "snapshots" / "step-7.safetensors")
        assert [series.run for series in group_files(paths)] == paths

    def test_a_directory_of_unordered_files_tells_them_apart(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            save_file({"w": np.eye(3)}, tmp_path / f"{name}.safetensors")
        result = analyze(tmp_path, how=How(store=False))
        sources = [str(tmp_path / f"{name}.safetensors") for name in ("a", "b")]
        assert [row["source"] for row in result.matrices] == sources


class TestRunsInADirectory:
    """A sweep: a directory whose directories are runs."""

    def run(self, path: Path, *steps: int) -> Path:
        touch(path / "run.json", *(path / "snapshots" / f"step-{n}.npy" for n in steps))
        return path

    def test_are_a_series_each_in_natural_order(self, tmp_path: Path) -> None:
        for name in ("B16", "B2", "B8"):
            self.run(tmp_path / name, 0, 1)
        found_series = group_files([tmp_path])
        assert [one.path.name for one in found_series] == ["B2", "B8", "B16"]
        assert all(one.run == one.path and len(one.snapshots) == 2 for one in found_series)

    def test_may_be_nested_three_deep(self, tmp_path: Path) -> None:
        deep = self.run(tmp_path / "a" / "b" / "c", 0)
        flat = self.run(tmp_path / "z", 0)
        self.run(tmp_path / "a" / "b" / "d" / "e", 0)  # too deep to be looked for
        self.run(flat / "inside", 0)  # a run within a run is not one of the sweep
        assert [one.path for one in group_files([tmp_path])] == [deep, flat]

    def test_that_have_no_snapshot_yet_are_empty_among_others(self, tmp_path: Path) -> None:
        self.run(tmp_path / "begun")
        self.run(tmp_path / "done", 0)
        begun, done = group_files([tmp_path])
        assert (begun.snapshots, len(done.snapshots)) == ((), 1)
        assert "without a snapshot" in skipped(begun)[str(tmp_path / "begun")]
        with pytest.raises(InputRejected, match="without a snapshot"):
            group_files([tmp_path / "begun"])

    def test_stand_beside_the_directorys_own_weights(self, tmp_path: Path) -> None:
        run = self.run(tmp_path / "runs" / "a", 0)
        touch(tmp_path / "final.safetensors")
        assert [one.path for one in group_files([tmp_path])] == [tmp_path, run]

    def test_stand_beside_numbered_checkpoints(self, tmp_path: Path) -> None:
        run = self.run(tmp_path / "other", 0)
        for step in (100, 200):
            touch(tmp_path / f"checkpoint-{step}" / "model.safetensors")
        own, other = group_files([tmp_path])
        assert [one.step for one in own.snapshots] == [100, 200]
        assert other.path == run

    def test_whose_names_are_numbered_are_no_snapshots(self, tmp_path: Path) -> None:
        for number in (1, 2):
            self.run(tmp_path / f"epoch-{number}", 0)
        assert [one.path.name for one in group_files([tmp_path])] == ["epoch-1", "epoch-2"]

    def test_are_counted_once_however_they_are_reached(self, tmp_path: Path) -> None:
        run = self.run(tmp_path / "sweep" / "group" / "a", 0)
        (tmp_path / "sweep" / "a-latest").symlink_to(run)
        (tmp_path / "sweep" / "a-group").symlink_to(run.parent)
        (tmp_path / "sweep" / "loop").symlink_to(tmp_path / "sweep")
        assert [one.path for one in group_files([tmp_path / "sweep"])] == [run]
        # Named by the user through a link, and a link to a run elsewhere: both are meant.
        (tmp_path / "link").symlink_to(tmp_path / "sweep")
        assert [one.path for one in group_files([tmp_path / "link"])] == [
            tmp_path / "link" / "group" / "a"
        ]
        elsewhere = self.run(tmp_path / "elsewhere", 0)
        (tmp_path / "sweep" / "borrowed").symlink_to(elsewhere)
        assert [one.path.name for one in group_files([tmp_path / "sweep"])] == ["borrowed", "a"]

    def test_that_are_unfinished_or_hidden_from_us_are_left(self, tmp_path: Path) -> None:
        run = self.run(tmp_path / "a", 0)
        self.run(tmp_path / "b.tmp", 0)
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
        assert [one.path for one in group_files([tmp_path])] == [run]

    def test_a_directory_without_any_is_as_ever(self, tmp_path: Path) -> None:
        touch(tmp_path / "notes" / "readme.txt")
        with pytest.raises(InputRejected, match="holds no weights"):
            group_files([tmp_path])

    def test_several_directories_of_runs(self, tmp_path: Path) -> None:
        runs = [self.run(tmp_path / sweep / name, 0) for sweep in "xy" for name in "ab"]
        assert [one.path for one in group_files([tmp_path / "x", tmp_path / "y"])] == runs
        # A run that is named besides its directory is not two.
        assert [one.path for one in group_files([tmp_path / "x", runs[0]])] == runs[:2]
