"""run.json and log.jsonl: round trips, and what is refused with which words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rankscope.errors import InputRejected
from rankscope.runlog import LogFile, LogRecord, read_log
from rankscope.runrecord import (
    Hyperparameters,
    MatrixRecord,
    Optimiser,
    RunRecord,
    read_run_record,
)

FULL = RunRecord(
    model="MLP-BN-2-8",
    matrices=(
        MatrixRecord("a.weight", "linear", (8, 4), 1),
        MatrixRecord("b.weight", "convolution", (8, 4, 3, 3), 16, averaged=False),
        MatrixRecord("c.weight", "embedding", (10, 4)),
    ),
    optimiser=Optimiser("sgd", momentum=0.9, nesterov=True),
    hyperparameters=Hyperparameters(
        8, 0.1, 5e-4, world_size=2, accumulation=4, schedule=((100, 0.01), (200, 0.001))
    ),
    data="digits",
    seed=7,
    versions={"python": "3.11"},
)


def put(run_dir: Path, content: Any) -> Path:
    (run_dir / "run.json").write_text(json.dumps(content))
    return run_dir


class TestRunRecord:
    @pytest.mark.parametrize("record", [FULL, RunRecord()])
    def test_reads_back_what_was_written(self, tmp_path: Path, record: RunRecord) -> None:
        assert read_run_record(put(tmp_path, record.to_json())) == record

    def test_states_both_conventions_of_weight_decay(self) -> None:
        written = FULL.to_json()["hyperparameters"]
        assert (written["weight_decay"], written["lambda"]) == (5e-4, 2.5e-4)

    def test_no_schedule_and_an_unknown_one_are_different(self, tmp_path: Path) -> None:
        for schedule in [(), None]:
            record = RunRecord(hyperparameters=Hyperparameters(8, 0.1, 0.0, schedule=schedule))
            assert read_run_record(put(tmp_path, record.to_json())) == record

    def test_is_none_where_there_is_none(self, tmp_path: Path) -> None:
        assert read_run_record(tmp_path) is None

    def test_ignores_unknown_keys_at_every_level(self, tmp_path: Path) -> None:
        content = FULL.to_json()
        for level in [content, content["matrices"][0], content["hyperparameters"]]:
            level["of_a_later_version"] = {"x": [1]}
        assert read_run_record(put(tmp_path, content)) == FULL

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            (["schema"], "rankscope/run/2", "schema is .*run/2.*, expected .*run/1"),
            (["schema"], None, "schema is null"),
            (["model"], 3, "model is 3, expected a string"),
            (["seed"], True, "seed is true, expected an integer"),
            (["seed"], 10**400, "seed is 1000.*, expected an integer"),
            (["matrices"], {}, "matrices is {}, expected a list"),
            (["matrices", 0], 5, r"matrices\[0\] is 5, expected an object"),
            (["matrices", 1, "kind"], "cubic", r"matrices\[1\].kind is .cubic., expected one of"),
            (["matrices", 1, "kind"], ["linear"], r"matrices\[1\].kind is .*expected"),
            (["matrices", 1, "shape"], [2, -1], r"matrices\[1\].shape is \[2, -1\]"),
            (["matrices", 0, "name"], None, r"matrices\[0\].name is null, expected a value"),
            (["matrices", 0, "averaged"], 1, r"matrices\[0\].averaged is 1, expected true or"),
            (["matrices", 0, "inputs_per_sample"], 0, r"matrices\[0\].inputs_per_sample is 0"),
            (["optimiser", "momentum"], "0.9", "optimiser.momentum is .0.9., expected a number"),
            (
                ["hyperparameters", "batch_size"],
                0,
                "hyperparameters.batch_size is 0, expected .* at least 1",
            ),
            (
                ["hyperparameters", "lr"],
                float("nan"),
                "hyperparameters.lr is NaN, expected a number",
            ),
            (["hyperparameters", "lr"], 10**400, "hyperparameters.lr is 1000.*, expected a number"),
            (
                ["hyperparameters", "weight_decay"],
                None,
                "hyperparameters.weight_decay is null, expected a value",
            ),
            (
                ["hyperparameters", "lambda"],
                5e-4,
                "hyperparameters.lambda is 0.0005, expected 0.00025, half",
            ),
            (
                ["hyperparameters", "schedule"],
                [[5, 0.1], [5, 0.2]],
                "hyperparameters.schedule is .*ascending",
            ),
            (["hyperparameters", "schedule"], [[5]], "hyperparameters.schedule is .*ascending"),
            (["versions", "python"], 3, "versions.python is 3, expected a string"),
        ],
    )
    def test_refuses_a_wrong_value_with_file_and_key(
        self, tmp_path: Path, path: list[Any], value: Any, message: str
    ) -> None:
        content = FULL.to_json()
        content["matrices"] = list(content["matrices"])
        level = content
        for key in path[:-1]:
            level = level[key]
        level[path[-1]] = value
        with pytest.raises(InputRejected, match=rf"run\.json: {message}") as caught:
            read_run_record(put(tmp_path, content))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"", "is not JSON"),
            (b"{", "is not JSON"),
            (b"\xff", "is not JSON"),
            (b"[]", "expected an object"),
            (b"[" * 100_000, "nested too deeply"),
            (b'{"schema": ' + b"9" * 10_000 + b"}", "is not JSON"),
        ],
    )
    def test_refuses_what_is_no_json_object(
        self, tmp_path: Path, text: bytes, message: str
    ) -> None:
        (tmp_path / "run.json").write_bytes(text)
        with pytest.raises(InputRejected, match=message):
            read_run_record(tmp_path)

    def test_refuses_a_fifo_and_a_huge_file_without_reading_them(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "run.json")
        with pytest.raises(InputRejected, match="not a regular file"):
            read_run_record(tmp_path)
        (tmp_path / "run.json").unlink()
        with open(tmp_path / "run.json", "wb") as file:
            file.truncate(2**40)
        with pytest.raises(InputRejected, match="expected at most"):
            read_run_record(tmp_path)


class TestLog:
    def test_reads_back_what_was_written(self, tmp_path: Path) -> None:
        log = LogFile(tmp_path / "log.jsonl")
        log.append(0, LogRecord(epoch=0, train_loss=2.5))
        log.append(5, LogRecord(epoch=0.5, batch_size=8, test_accuracy=1.0))
        log.close()
        log.close()
        assert read_log(tmp_path) == [
            {"step": 0, "epoch": 0, "train_loss": 2.5},
            {"step": 5, "epoch": 0.5, "batch_size": 8, "test_accuracy": 1.0},
        ]

    def test_a_loss_that_is_not_finite_is_null(self, tmp_path: Path) -> None:
        log = LogFile(tmp_path / "log.jsonl")
        log.append(1, LogRecord(train_loss=float("nan"), test_loss=float("inf")))
        log.close()
        assert read_log(tmp_path) == [{"step": 1, "train_loss": None, "test_loss": None}]

    def test_one_line_is_one_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        log = LogFile(tmp_path / "log.jsonl")
        calls: list[bytes] = []
        write = os.write

        def counted(descriptor: int, data: bytes) -> int:
            calls.append(data)
            return write(descriptor, data)

        monkeypatch.setattr(os, "write", counted)
        log.append(3, LogRecord(lr=0.1))
        log.close()
        assert calls == [b'{"step": 3, "lr": 0.1}\n']

    @pytest.mark.parametrize("torn", [b'{"step": 2, "ep', b'{"step": 2}', b"\xe2\x82"])
    def test_a_torn_last_line_is_left_out_and_cut_on_reopening(
        self, tmp_path: Path, torn: bytes
    ) -> None:
        path = tmp_path / "log.jsonl"
        path.write_bytes(b'{"step": 1}\n' + torn)
        assert read_log(tmp_path) == [{"step": 1}]
        log = LogFile(path)
        log.append(2, LogRecord(epoch=1))
        log.close()
        assert read_log(tmp_path) == [{"step": 1}, {"step": 2, "epoch": 1}]

    def test_is_empty_where_there_is_none(self, tmp_path: Path) -> None:
        assert read_log(tmp_path) == []

    def test_keeps_unknown_keys_and_repeated_steps(self, tmp_path: Path) -> None:
        (tmp_path / "log.jsonl").write_text('{"step": 1, "x": "y"}\n{"step": 1}\n')
        assert read_log(tmp_path) == [{"step": 1, "x": "y"}, {"step": 1}]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("nonsense", "line 2 is not JSON"),
            ("", "line 2 is not JSON"),
            ("[1]", r"line 2 is \[1\], expected an object"),
            ('{"epoch": 1}', "line 2.step is missing, expected a"),
            ('{"step": 1.5}', "line 2.step is 1.5, expected an integer"),
            ('{"step": -1}', "line 2.step is -1, expected an integer"),
            ('{"step": 1, "train_loss": "low"}', 'line 2.train_loss is "low", expected a number'),
            ('{"step": 1, "lr": NaN}', "line 2.lr is NaN, expected a number"),
        ],
    )
    def test_refuses_a_damaged_line_with_its_number(
        self, tmp_path: Path, line: str, message: str
    ) -> None:
        (tmp_path / "log.jsonl").write_text(f'{{"step": 0}}\n{line}\n{{"step": 2}}\n')
        with pytest.raises(InputRejected, match=rf"log\.jsonl: {message}"):
            read_log(tmp_path)
