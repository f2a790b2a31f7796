"""A recipe scaled, on other data, or as the authors' code has it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.errors import UsageError
from trainers.imageargs import Args
from trainers.recipes.building import titled
from trainers.recipes.catalogue import RECIPES
from trainers.recipes.changes import Changes, changed
from trainers.recipes.datasets import SIZES
from trainers.recipes.p1 import FIGURES

BY_NAME = {recipe.name: recipe for recipe in RECIPES}


def runs(name: str, **changes: Any) -> tuple[Args, ...]:
    return changed(BY_NAME[name], Changes(**changes)).runs


def differences(first: Args, second: Args) -> set[str]:
    names = {part.name for part in fields(Args)}
    return {name for name in names if getattr(first, name) != getattr(second, name)}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_no_change_changes_nothing(recipe: Any) -> None:
    for before, after in zip(recipe.runs, changed(recipe, Changes()).runs, strict=True):
        assert differences(before, after) == set()
    assert changed(recipe, Changes()) == recipe


@pytest.mark.parametrize("field", ["lr_factor", "leaky_relu"])
def test_what_a_recipe_has_by_itself_stays_unless_it_is_asked_for(field: str) -> None:
    own: dict[str, Any] = {"lr_factor": 1.0, "leaky_relu": True}
    plain = BY_NAME["digits-bound"]
    panels = [replace(p, runs=tuple(replace(r, **own) for r in p.runs)) for p in plain.panels]
    recipe = replace(plain, panels=tuple(panels))
    for changes in (Changes(scale=0.5), Changes(data="synthetic"), Changes(augment=False)):
        found = {getattr(run, field) for run in changed(recipe, changes).runs}
        assert found == {own[field]}
    asked = changed(recipe, Changes(lr_factor=0.5, leaky_relu=True)).runs
    assert {(run.lr_factor, run.leaky_relu) for run in asked} == {(0.5, True)}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_title_says_what_was_trained(recipe: Any) -> None:
    (arch,) = {args.arch for args in recipe.runs}
    names = {"resnet18": "ResNet-18", "vgg16": "VGG-16", "vit": "the ViT"}
    own = names.get(arch, arch.upper())
    assert recipe.title.count(own) == 1
    other = changed(recipe, Changes(settings=("arch=mlp-bn-2-77",))).title
    assert other == recipe.title.replace(own, "MLP-BN-2-77")
    scaled = changed(recipe, Changes(scale=0.5))
    (narrow,) = {args.arch for args in scaled.runs}
    assert names.get(narrow, narrow.upper()) in scaled.title
    if arch.startswith("mlp"):
        assert own not in scaled.title


class TestPanelTitles:
    @pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
    def test_every_one_says_what_its_runs_have_in_common(self, recipe: Any) -> None:
        for panel in recipe.panels:
            assert panel.told
            assert {titled(args, panel.told) for args in panel.runs} == {panel.title}
            assert not {*panel.told} & {*panel.vary}

    def test_what_is_set_is_in_them(self) -> None:
        (panel,) = changed(BY_NAME["P1-F16"], Changes(settings=("mu=0.1",))).panels
        assert panel.title == "μ = 0.1, weight decay 0.006"
        (panel,) = changed(BY_NAME["P1-F14"], Changes(settings=("B=32",))).panels
        assert panel.title == "B = 32"


class TestScale:
    @given(st.sampled_from(FIGURES), st.floats(1e-4, 1.0))
    def test_the_learning_rate_drops_at_the_same_shares(self, recipe: Any, scale: float) -> None:
        before, after = recipe.runs[0], changed(recipe, Changes(scale=scale)).runs[0]
        assert 8 <= after.epochs <= before.epochs
        stretch = before.epochs / after.epochs
        rates = [after.learning_rate(epoch) for epoch in range(after.epochs)]
        # As many drops, each in an epoch of its own, as near to its share as whole epochs allow.
        levels = list(dict.fromkeys(rates))
        printed = [before.learning_rate(epoch) for epoch in range(before.epochs)]
        assert levels == pytest.approx(list(dict.fromkeys(printed)))
        for level, printed_level in zip(levels[1:], list(dict.fromkeys(printed))[1:], strict=True):
            share = printed.index(printed_level) / stretch
            assert abs(rates.index(level) - share) <= 0.5 + 1e-9

    @given(st.sampled_from(FIGURES), st.floats(1e-4, 1.0))
    def test_what_stays_and_what_shrinks(self, recipe: Any, scale: float) -> None:
        scaled = changed(recipe, Changes(scale=scale))
        limits = set()
        for before, after in zip(recipe.runs, scaled.runs, strict=True):
            assert differences(before, after) <= {"out", "epochs", "limit", "arch"}
            limits.add(after.limit)
            images = after.limit or SIZES[after.data].train
            assert images >= 4 * after.batch_size
            assert images == max(512, round(scale * SIZES[after.data].train))
        assert len(limits) <= len({args.data for args in recipe.runs})

    @pytest.mark.parametrize(
        ("name", "scale", "arch", "epochs", "limit"),
        [
            ("P1-F18", 0.02, "mlp-bn-2-200", 10, 1000),
            ("P1-F8", 0.1, "res-bn-5-50", 50, 5000),
            ("P1-F6", 0.01, "mlp-bn-10-16", 8, 512),
            ("P1-F9", 0.1, "vit", 20, 5000),
            ("P1-F12", 0.1, "vgg16", 50, 5000),
            ("P1-F2", 0.5, "resnet18", 250, 25_000),
        ],
    )
    def test_examples(self, name: str, scale: float, arch: str, epochs: int, limit: int) -> None:
        args = runs(name, scale=scale)[0]
        assert (args.arch, args.epochs, args.limit) == (arch, epochs, limit)

    def test_the_bound_still_saves_the_end_only(self) -> None:
        (args,) = runs("P1-F18", scale=0.1)
        assert (args.snapshots, args.every) == (1, None)

    def test_a_small_data_set_is_taken_whole(self) -> None:
        assert runs("P1-F6", scale=0.3, data="digits")[0].limit == 512
        assert runs("P1-F6", scale=0.9999, data="digits")[0].limit is None
        assert runs("P1-F6", data="digits")[0].limit is None


class TestOtherData:
    @pytest.mark.parametrize("recipe", FIGURES, ids=lambda recipe: recipe.name)
    def test_every_run_is_on_it(self, recipe: Any) -> None:
        new = changed(recipe, Changes(data="synthetic"))
        assert {args.data for args in new.runs} == {"synthetic"}
        assert new.title == f"{recipe.title}, on synthetic"

    def test_panels_that_differ_in_the_data_alone_become_one(self) -> None:
        (panel,) = changed(BY_NAME["P1-F13"], Changes(data="digits")).panels
        assert panel.title == "digits"
        assert len(panel.runs) == 5

    def test_the_sizes_are_those_of_the_data(self) -> None:
        from trainers.data import NAMES, load

        assert set(SIZES) == set(NAMES)
        for name in ("digits", "synthetic"):
            images = load(name)
            assert not SIZES[name].needs_files
            assert SIZES[name].train == len(images.train_labels)
            assert SIZES[name].shape == tuple(images.train_images.shape[1:])


class TestDepartures:
    def test_as_the_code_has_it(self) -> None:
        new = changed(BY_NAME["P1-F4"], Changes(as_code=True))
        assert new.eps == (0.05,)
        (changes,) = {
            tuple(sorted(differences(before, after)))
            for before, after in zip(BY_NAME["P1-F4"].runs, new.runs, strict=True)
        }
        assert changes == ("augment", "lr_factor", "out")
        assert {(args.lr_factor, args.augment) for args in new.runs} == {(0.2, False)}
        assert {args.leaky_relu for args in runs("P1-F2", as_code=True)} == {True}
        assert set(runs("P1-F14", as_code=True)) <= set(runs("P1-F2", as_code=True))

    def test_each_by_itself(self) -> None:
        before = BY_NAME["P1-F4"].runs[0]
        for changes, expected in (
            ({"lr_factor": 0.2}, {"lr_factor", "out"}),
            ({"augment": False}, {"augment", "out"}),
            ({"leaky_relu": True}, {"leaky_relu", "out"}),
            ({"eps": (0.05, 0.04)}, set()),
            ({"device": "cuda"}, {"device"}),
        ):
            assert differences(before, runs("P1-F4", **changes)[0]) == expected
        assert changed(BY_NAME["P1-F4"], Changes(eps=(0.05, 0.04))).eps == (0.05, 0.04)

    def test_the_printed_factor_is_no_departure(self) -> None:
        assert runs("P1-F9", lr_factor=0.2) == runs("P1-F9")
        assert runs("P1-F2", lr_factor=0.1) == runs("P1-F2")

    def test_the_title_tells_them(self) -> None:
        changes = Changes(scale=0.1, leaky_relu=True, augment=False, settings=("momentum=0.9",))
        title = changed(BY_NAME["P1-F8"], changes).title
        assert title.endswith(", scale 0.1, not augmented, leaky ReLU, momentum=0.9")

    def test_seeds(self) -> None:
        panel = changed(BY_NAME["P1-F15"], Changes(seeds=3)).panels[0]
        assert [(args.batch_size, args.seed) for args in panel.runs] == [
            (size, seed) for size in (8, 16, 32, 64) for seed in (0, 1, 2)
        ]
        assert len({args.out for args in panel.runs}) == 12


class TestSettings:
    def test_an_option_of_every_run(self) -> None:
        settings = ("momentum=0.9", "nesterov", "precision=tf32")
        for args in runs("P1-F6", settings=settings, device="cuda"):
            assert (args.momentum, args.nesterov, args.precision) == (0.9, True, "tf32")
            assert args.out.name.endswith("-momentum0.9-nesterov-precision-tf32")

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("mu=3", "the recipe itself sets or varies --mu"),
            ("B=3", "the recipe itself sets or varies --B"),
            ("out=x", "the recipe itself sets or varies --out"),
            ("seed=1", "the recipe itself sets or varies --seed"),
            ("weight=1", "^--set weight=1: .*unrecognized arguments: --weight"),
            ("nesterov=1", "^--set nesterov=1: .*ignored explicit argument '1'"),
            ("lambda=-1", "^--set lambda=-1: .*not allowed with argument --weight-decay"),
            ("", "^--set '': names no option"),
            ("=3", "^--set '=3': names no option"),
            ("burst=0", "burst is 0"),
            ("precision=tf32", "needs a CUDA device"),
        ],
    )
    def test_refused(self, setting: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            runs("P1-F9", settings=(setting,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 0}, "scale is 0"),
        ({"scale": 1.5}, "scale is 1.5"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"seeds": 0}, "seeds is 0"),
        ({"eps": (0.0,)}, "eps is 0"),
        ({"data": "imagenet"}, "no data set 'imagenet'"),
        ({"leaky_relu": True}, "vit has GELUs"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        runs("P1-F10", **changes)


def test_the_authors_code_has_no_leaky_relu_in_the_vit() -> None:
    assert not any(args.leaky_relu for args in runs("P1-F9", as_code=True))


def test_run_names_do_not_depend_on_where_they_are() -> None:
    args = runs("P1-F2", device="cuda")[0]
    assert args.out == replace(args, data_dir=Path("x")).out == runs("P1-F2")[0].out
