"""How a run was trained, from its record, its log and what the user states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar

import pytest
import torch

from rankscope.bounds.dynamics import Dynamics, Phase
from rankscope.bounds.optimisers import ELEMENTWISE, check_optimiser
from rankscope.errors import UsageError
from rankscope.runrecord import Hyperparameters, MatrixRecord, Optimiser, RunRecord
from rankscope.training import Given, Training, training_of

Log = list[dict[str, Any]]

KNOWN = Hyperparameters(8, 0.1, 5e-4, schedule=())
SGD = Optimiser()
RUN = RunRecord(optimiser=SGD, hyperparameters=KNOWN)
NOTHING = Given()


def known(run: RunRecord | None, log: Log | None = None, given: Given = NOTHING) -> Training:
    found = training_of(run, log or [], given)
    assert found is not None
    return found


def dynamics(run: RunRecord | None, log: Log | None = None, given: Given = NOTHING) -> Dynamics:
    found = known(run, log, given)
    assert found.reason == ""
    assert found.dynamics is not None
    return found.dynamics


def refusal(run: RunRecord | None, log: Log | None = None, given: Given = NOTHING) -> str:
    found = known(run, log, given)
    assert found.dynamics is None
    assert found.reason
    return found.reason


def record(**values: Any) -> RunRecord:
    return replace(RUN, hyperparameters=replace(KNOWN, **values))


def lines(key: str, values: Mapping[int, Any]) -> Log:
    return [{"step": step, key: value} for step, value in values.items()]


def steps(found: Dynamics, name: str) -> list[tuple[int, Any]]:
    return [(phase.start, getattr(phase, name)) for phase in found.phases]


class TestNothing:
    def test_is_known_of_a_foreign_series(self) -> None:
        assert training_of(None, [], NOTHING) is None
        assert not NOTHING.anything

    @pytest.mark.parametrize("name", [field.name for field in fields(Given)])
    def test_is_not_so_with_anything_stated(self, name: str) -> None:
        # 0 and False state something too.
        values: dict[str, Any] = {name: 0}
        assert Given(**values).anything
        assert training_of(None, [], Given(**values)) is not None

    def test_is_not_so_with_a_record_or_a_log(self) -> None:
        assert training_of(RunRecord(), [], NOTHING) is not None
        assert training_of(None, [{"step": 1, "lr": 0.1}], NOTHING) is not None


class TestPrecedence:
    LOG: ClassVar[Log] = [
        {"step": 5, "lr": 0.3, "weight_decay": 0.03, "batch_size": 3, "momentum": 0.3}
    ]
    GIVEN = Given(batch=4, mu=0.4, weight_decay=0.04, momentum=0.4, nesterov=True)

    def test_the_user_wins_over_all(self) -> None:
        expected = Dynamics((Phase(0, 0.4, 0.04, 4),), 0.4, nesterov=True)
        for run in (RUN, RunRecord(), None):
            found = known(run, self.LOG, self.GIVEN)
            assert (found.dynamics, found.remarks) == (expected, ())

    def test_the_record_wins_over_the_log(self) -> None:
        run = replace(RUN, optimiser=Optimiser(momentum=0.3))
        assert dynamics(run, self.LOG) == Dynamics((Phase(0, 0.1, 5e-4, 8),), 0.3)

    def test_the_log_holds_where_there_is_no_record(self) -> None:
        for run in (RunRecord(), None):
            assert dynamics(run, self.LOG) == Dynamics((Phase(0, 0.3, 0.03, 3),), 0.3)

    def test_each_thing_is_taken_for_itself(self) -> None:
        run = replace(RUN, optimiser=Optimiser(momentum=0.9, nesterov=True))
        assert dynamics(run, given=Given(mu=0.5)).phases == (Phase(0, 0.5, 5e-4, 8),)
        assert dynamics(run, given=Given(weight_decay=0.0)).phases == (Phase(0, 0.1, 0.0, 8),)
        assert dynamics(run, given=Given(batch=1)).phases == (Phase(0, 0.1, 5e-4, 1),)
        assert dynamics(run, given=Given(momentum=0.0)).momentum == 0
        assert dynamics(run, given=Given(nesterov=False)).nesterov is False
        assert dynamics(run, given=Given(mu=0.5)).nesterov is True

    def test_a_constant_step_size_sets_aside_the_schedule(self) -> None:
        run = record(schedule=((10, 0.01),))
        assert steps(dynamics(run, given=Given(mu=0.5)), "mu") == [(0, 0.5)]


class TestSchedules:
    def test_the_first_learning_rate_holds_until_the_first_change(self) -> None:
        found = dynamics(record(schedule=((100, 0.01), (200, 0.001))))
        assert steps(found, "mu") == [(0, 0.1), (100, 0.01), (200, 0.001)]
        assert [found.phase(t).mu for t in (99, 100, 199, 200)] == [0.1, 0.01, 0.01, 0.001]

    def test_one_that_begins_at_0_says_all(self) -> None:
        assert steps(dynamics(record(schedule=((0, 0.2), (5, 0.1)))), "mu") == [(0, 0.2), (5, 0.1)]

    def test_a_constant_one_is_no_reason_for_a_remark(self) -> None:
        found = known(RUN)
        assert found.dynamics == Dynamics((Phase(0, 0.1, 5e-4, 8),))
        assert found.remarks == ()

    def test_one_that_is_not_recorded_is_taken_from_the_log(self) -> None:
        found = known(record(schedule=None), lines("lr", {10: 0.1, 20: 0.01}))
        assert found.dynamics is not None
        assert steps(found.dynamics, "mu") == [(0, 0.1), (10, 0.01)]
        assert found.remarks == ()

    def test_a_log_that_begins_otherwise_than_the_record_gets_a_remark(self) -> None:
        found = known(record(schedule=None), lines("lr", {10: 0.2, 20: 0.01}))
        assert found.dynamics is not None
        assert steps(found.dynamics, "mu") == [(0, 0.2), (10, 0.01)]
        (remark,) = found.remarks
        assert remark == (
            "the first learning rate is 0.1 in run.json and 0.2 in log.jsonl; "
            "log.jsonl holds, as run.json has no schedule"
        )

    def test_without_a_log_it_is_taken_as_constant_with_a_remark(self) -> None:
        found = known(record(schedule=None))
        assert found.dynamics == Dynamics((Phase(0, 0.1, 5e-4, 8),))
        assert found.remarks == ("no schedule is recorded: the learning rate is taken as constant",)


class TestLog:
    def test_a_lines_value_holds_since_the_line_before(self) -> None:
        log = lines("lr", {10: 0.1, 20: 0.1, 30: 0.01, 40: 0.001})
        found = dynamics(None, log, Given(batch=8, weight_decay=0.0))
        assert steps(found, "mu") == [(0, 0.1), (20, 0.01), (30, 0.001)]

    def test_a_line_before_any_update_says_nothing(self) -> None:
        log = lines("lr", {0: 0.7, 10: 0.1})
        assert steps(dynamics(None, log, Given(batch=8, weight_decay=0.0)), "mu") == [(0, 0.1)]

    def test_lines_without_a_value_are_passed_over(self) -> None:
        log = [*lines("lr", {10: 0.1, 20: 0.01}), {"step": 5}, {"step": 15, "train_loss": 1.0}]
        found = dynamics(None, log, Given(batch=8, weight_decay=0.0))
        assert steps(found, "mu") == [(0, 0.1), (10, 0.01)]

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("lr", "the learning rate of the updates from 10 on is not recorded; give --mu"),
            (
                "weight_decay",
                "the weight decay of the updates from 10 on is not recorded; "
                "give --weight-decay or --lambda",
            ),
            ("batch_size", "the batch size of the updates from 10 on is not recorded; give --B"),
            ("momentum", "the log's momentum is not always known, as the bound needs"),
        ],
    )
    def test_null_is_a_value_that_is_not_known(self, key: str, message: str) -> None:
        whole = {"lr": 0.1, "weight_decay": 0.01, "batch_size": 8, "momentum": 0.0}
        log: Log = [{"step": 10, **whole}, {"step": 20, **whole, key: None}, {"step": 30}]
        assert refusal(None, log) == message

    def test_null_is_known_no_better_by_a_record_without_a_schedule(self) -> None:
        for key, what in (("lr", "learning rate"), ("weight_decay", "weight decay")):
            log = lines(key, {10: getattr(KNOWN, key), 20: None})
            reason = refusal(record(schedule=None), log)
            assert reason.startswith(f"the {what} of the updates from 10 on is not recorded")

    def test_null_is_not_asked_for_where_the_user_states_it(self) -> None:
        log = lines("lr", {10: 0.1, 20: None})
        assert steps(dynamics(record(schedule=None), log, Given(mu=0.3)), "mu") == [(0, 0.3)]

    @pytest.mark.parametrize("schedule", [None, ()])
    def test_a_weight_decay_that_changes(self, schedule: Any) -> None:
        """run.json has one number for it, whether it has a schedule of the learning rate or not."""
        found = known(record(schedule=schedule), lines("weight_decay", {20: 5e-4, 60: 0.0}))
        assert found.dynamics is not None
        assert steps(found.dynamics, "weight_decay") == [(0, 5e-4), (20, 0.0)]
        assert not any("weight" in remark for remark in found.remarks)

    def test_a_weight_decay_that_begins_otherwise_than_the_record(self) -> None:
        found = known(record(schedule=None), lines("weight_decay", {60: 0.0}))
        assert found.dynamics is not None
        assert steps(found.dynamics, "weight_decay") == [(0, 0.0)]
        assert found.remarks[-1] == (
            "the first weight decay is 0.0005 in run.json and 0 in log.jsonl; "
            "log.jsonl holds, as run.json has no schedule of it"
        )

    def test_a_resumed_runs_later_record_holds_in_the_order_of_steps(self) -> None:
        log = [*lines("lr", {10: 0.1, 20: 0.2, 30: 0.3}), *lines("lr", {20: 0.02, 30: 0.03})]
        found = dynamics(None, log, Given(batch=8, weight_decay=0.0))
        assert steps(found, "mu") == [(0, 0.1), (10, 0.02), (20, 0.03)]

    def test_all_that_changes_makes_phases(self) -> None:
        log: Log = [
            {"step": 10, "lr": 0.1, "weight_decay": 0.01, "batch_size": 8},
            {"step": 20, "lr": 0.1, "weight_decay": 0.02, "batch_size": 8},
            {"step": 30, "lr": 0.2, "weight_decay": 0.02, "batch_size": 16},
        ]
        found = known(None, log)
        assert found.dynamics is not None
        assert found.dynamics.phases == (
            Phase(0, 0.1, 0.01, 8),
            Phase(10, 0.1, 0.02, 8),
            Phase(20, 0.2, 0.02, 16),
        )
        assert found.remarks == (
            "no optimiser is recorded: taken as SGD with no momentum",
            "the log's batch size is taken as that of a whole update",
        )


class TestContradictions:
    @pytest.mark.parametrize(
        ("key", "values", "remark"),
        [
            ("lr", {10: 0.1, 20: 0.3}, "lr of update 19 is 0.1 in run.json and 0.3 in log.jsonl"),
            (
                "weight_decay",
                {1: 0.001},
                "weight_decay of update 0 is 0.0005 in run.json and 0.001",
            ),
            (
                "batch_size",
                {50: 16},
                "batch_size of update 49 is 8 in run.json and 16 in log.jsonl",
            ),
        ],
    )
    def test_the_first_gets_a_remark(self, key: str, values: dict[int, Any], remark: str) -> None:
        found = known(RUN, lines(key, values))
        assert found.dynamics == Dynamics((Phase(0, 0.1, 5e-4, 8),))
        assert len(found.remarks) == 1
        assert found.remarks[0].startswith(remark)
        assert found.remarks[0].endswith("; run.json holds")

    def test_a_log_that_agrees_gets_none(self) -> None:
        run = record(schedule=((15, 0.01),), world_size=2)
        log: Log = [
            {"step": step, "lr": lr, "weight_decay": 5e-4, "batch_size": 8, "momentum": 0.0}
            # Of few lines, none at the change; the logger rounds.
            for step, lr in ((0, 7.0), (10, 0.1), (20, 0.01 * (1 + 1e-7)))
        ]
        assert known(run, log).remarks == ()

    def test_a_schedule_goes_on_after_the_log_ends(self) -> None:
        assert known(record(schedule=((100, 0.01),)), lines("lr", {50: 0.1})).remarks == ()
        assert known(record(schedule=((50, 0.01),)), lines("lr", {50: 0.1})).remarks == ()
        assert known(record(schedule=((49, 0.01),)), lines("lr", {50: 0.1})).remarks != ()

    def test_what_the_user_states_is_not_compared(self) -> None:
        assert known(RUN, lines("lr", {10: 0.7}), Given(mu=0.2)).remarks == ()


class TestBatch:
    def test_is_that_of_a_whole_update(self) -> None:
        found = dynamics(record(world_size=4, accumulation=3))
        assert steps(found, "batch") == [(0, 8 * 4 * 3)]

    def test_is_stated_for_a_whole_update(self) -> None:
        found = dynamics(record(world_size=4, accumulation=3), given=Given(batch=10))
        assert steps(found, "batch") == [(0, 10)]

    @pytest.mark.parametrize("batch", [7.5, 0, -8])
    def test_must_be_a_number_of_samples(self, batch: float) -> None:
        log = lines("batch_size", {10: batch})
        assert "batch size is" in refusal(None, log, Given(mu=0.1, weight_decay=0.1))


class TestMomentum:
    def test_comes_from_the_record(self) -> None:
        run = replace(RUN, optimiser=Optimiser("SGD", momentum=0.9, nesterov=True))
        assert dynamics(run) == Dynamics((Phase(0, 0.1, 5e-4, 8),), 0.9, nesterov=True)

    def test_is_taken_as_0_with_a_remark(self) -> None:
        found = known(replace(RUN, optimiser=None))
        assert found.dynamics == Dynamics((Phase(0, 0.1, 5e-4, 8),))
        assert found.remarks == ("no optimiser is recorded: taken as SGD with no momentum",)
        assert known(replace(RUN, optimiser=None), given=Given(momentum=0.0)).remarks == ()

    def test_of_the_log_is_taken_with_a_remark(self) -> None:
        found = known(replace(RUN, optimiser=None), lines("momentum", {1: 0.9, 2: 0.9}))
        assert found.dynamics == Dynamics((Phase(0, 0.1, 5e-4, 8),), 0.9)
        assert found.remarks == ("no optimiser is recorded: taken as SGD with momentum 0.9",)

    def test_that_changes_is_refused(self) -> None:
        log = lines("momentum", {1: 0.9, 2: 0.95})
        message = "the log's momentum is not always 0.9, as the bound needs"
        assert refusal(replace(RUN, optimiser=None), log) == message
        assert refusal(replace(RUN, optimiser=Optimiser(momentum=0.9)), log) == message
        assert dynamics(RUN, log, Given(momentum=0.9)).momentum == 0.9

    def test_of_1_or_more_is_refused(self) -> None:
        assert "momentum is 1," in refusal(RUN, given=Given(momentum=1.0))

    def test_with_dampening_is_refused(self) -> None:
        run = replace(RUN, optimiser=Optimiser(momentum=0.9, dampening=0.1))
        assert refusal(run) == "no bound for dampening 0.1, only for 0"
        # Without momentum PyTorch does not look at it.
        assert dynamics(replace(RUN, optimiser=Optimiser(dampening=0.1))).momentum == 0


class TestOptimiser:
    # Of torch.optim: these divide elementwise, the others in it do something else again.
    OF_TORCH = ("Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "AdamW", "NAdam", "RAdam")

    @pytest.mark.parametrize("name", [*OF_TORCH, "RMSprop", "Rprop", "SparseAdam", "adam", "Lion"])
    def test_that_divides_elementwise_is_refused_by_name(self, name: str) -> None:
        reason = refusal(replace(RUN, optimiser=Optimiser(name)))
        assert reason.startswith(f"no bound for {name}: dividing the gradient elementwise destroys")
        with pytest.raises(UsageError, match=f"no bound for {name}: dividing"):
            check_optimiser(name)

    def test_none_of_torch_is_taken_for_sgd(self) -> None:
        classes = [one for one in vars(torch.optim).values() if isinstance(one, type)]
        assert len(classes) > 10
        for one in classes:
            if one.__name__ != "SGD":
                with pytest.raises(UsageError, match="the theorem is about SGD"):
                    check_optimiser(one.__name__)

    @pytest.mark.parametrize("name", ["lbfgs", "muon", "asgd", "sgdw", ""])
    def test_that_is_another_is_refused(self, name: str) -> None:
        assert refusal(replace(RUN, optimiser=Optimiser(name))) == (
            f"no bound for optimiser {name}: the theorem is about SGD"
        )
        assert name not in ELEMENTWISE

    @pytest.mark.parametrize("name", ["sgd", "SGD", "Sgd"])
    def test_sgd_is_accepted(self, name: str) -> None:
        check_optimiser(name)

    def test_the_users_numbers_do_not_make_adam_sgd(self) -> None:
        run = replace(RUN, optimiser=Optimiser("adam"))
        assert "adam" in refusal(run, given=Given(batch=8, mu=0.1, weight_decay=0.1, momentum=0.0))


class TestMissing:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (Given(batch=8, weight_decay=0.1), "the learning rate is not recorded; give --mu"),
            (
                Given(batch=8, mu=0.1),
                "the weight decay is not recorded; give --weight-decay or --lambda",
            ),
            (Given(mu=0.1, weight_decay=0.1), "the batch size is not recorded; give --B"),
        ],
    )
    def test_the_flag_is_named(self, given: Given, message: str) -> None:
        for run in (None, RunRecord(), RunRecord(optimiser=SGD)):
            assert refusal(run, given=given) == message

    def test_what_is_out_of_range_is_the_reason(self) -> None:
        assert "mu lambda is 0.5" in refusal(record(weight_decay=10.0))
        assert "mu is -1" in refusal(RUN, lines("lr", {5: -1.0}), Given(mu=-1.0))
        assert "mu lambda is 1" in refusal(record(schedule=((10**6, 4000.0),)))


class TestMatrices:
    RUN = RunRecord(
        matrices=(
            MatrixRecord("a", "linear", (4, 4), 1),
            MatrixRecord("b", "convolution", (4, 4, 3, 3), 64, averaged=False),
            MatrixRecord("c", "linear", (4, 4)),
        )
    )

    def test_inputs_are_those_recorded_else_those_stated(self) -> None:
        found = known(self.RUN, given=Given(inputs=5))
        assert [found.inputs_of(name) for name in "abcd"] == [1, 64, 5, 5]
        assert [known(self.RUN).inputs_of(name) for name in "abcd"] == [1, 64, None, None]

    def test_the_average_is_over_those_marked(self) -> None:
        assert known(self.RUN).averaged == {"a": True, "b": False, "c": True}
        assert known(None, given=Given(inputs=5)).averaged == {}

    def test_what_is_stated_is_not_of_one_that_is_frozen(self) -> None:
        run = RunRecord(matrices=(MatrixRecord("a", "linear", (4, 4), 1, trained=False),))
        found = known(run, given=Given(inputs=5))
        assert [found.inputs_of(name) for name in "ab"] == [None, 5]

    def test_are_known_where_there_is_no_bound(self) -> None:
        found = known(replace(self.RUN, optimiser=Optimiser("adam")))
        assert found.dynamics is None
        assert found.inputs_of("b") == 64
        assert found.averaged["b"] is False


class TestAdamsState:
    """Without a recorded optimiser, what else is in the snapshots tells of it."""

    given = Given(batch=8, mu=0.1, weight_decay=0.1, inputs=1)

    @pytest.mark.parametrize(
        "name", ["optimizer.state.0.exp_avg", "state/3/exp_avg_sq", "opt.square_avg", "exp_avg"]
    )
    def test_is_no_bound(self, name: str) -> None:
        known = training_of(None, [], self.given, ["w", name])
        assert known is not None
        assert known.dynamics is None
        assert "the state of Adam or its kin (exp_avg)" in known.reason

    @pytest.mark.parametrize("name", ["momentum_buffer", "my_exp_avgs", "exp_avg.weight", "nu"])
    def test_other_names_are_not_it(self, name: str) -> None:
        known = training_of(None, [], self.given, [name])
        assert known is not None
        assert known.dynamics is not None

    def test_what_is_recorded_wins(self) -> None:
        run = RunRecord(optimiser=Optimiser("sgd"))
        known = training_of(run, [], self.given, ["optimizer.state.0.exp_avg"])
        assert known is not None
        assert known.dynamics is not None
