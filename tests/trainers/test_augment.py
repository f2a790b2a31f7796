"""Augmentation: what is drawn, what is done, and both against an image by image reference."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import rotate
from scipy.stats import chisquare
from torch import Generator, Tensor

from trainers.data import (
    P1_POLICY,
    PLAIN_POLICY,
    Augment,
    Draws,
    Images,
    Policy,
    Standardise,
    Task,
    synthetic,
)

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ),
]


def random_images(shape: tuple[int, ...] = (20, 3, 32, 32), device: str = "cpu") -> Images:
    """Bytes, no two channels with the same mean or deviation."""
    generator = Generator().manual_seed(5)
    scale = torch.linspace(0.4, 1, shape[1])[:, None, None]
    pixels = (torch.rand(shape, generator=generator) * 255 * scale).to(torch.uint8)
    labels = torch.zeros(shape[0], dtype=torch.int64)
    return Images(pixels, labels, pixels, labels, classes=10, name="random").to(device)


def augment(images: Images, policy: Policy = P1_POLICY, seed: int = 0) -> Augment:
    return Augment(images, Generator(images.train_images.device).manual_seed(seed), policy)


def naive(
    image: NDArray[np.float64], padding: int, top: int, left: int, flipped: bool, turns: int
) -> NDArray[np.float64]:
    """One image, shape (channels, height, width), as P1's appendix B.1 reads."""
    height, width = image.shape[1:]
    framed = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    image = framed[:, top : top + height, left : left + width]
    if flipped:
        image = image[:, :, ::-1]
    # grid-constant: beyond the edge there are zeros, and bilinear between the edge and them.
    return np.stack(
        [rotate(c, 15 * turns, reshape=False, order=1, mode="grid-constant") for c in image]
    )


def naive_batch(images: Images, indices: Tensor, draws: Draws, padding: int) -> Tensor:
    pixels = images.train_images.double().cpu().numpy()
    mean = pixels.mean((0, 2, 3))[:, None, None]
    deviation = pixels.std((0, 2, 3))[:, None, None]
    columns = [getattr(draws, field.name).tolist() for field in dataclasses.fields(draws)]
    rows = zip(indices.tolist(), *columns, strict=True)
    done = [(naive(pixels[i], padding, *row) - mean) / deviation for i, *row in rows]
    return torch.from_numpy(np.stack(done))


def every_outcome(policy: Policy) -> Draws:
    offsets = range(2 * policy.padding + 1)
    flips = (False, True) if policy.flip else (False,)
    turns = range(1, 25) if policy.rotate else (0,)
    columns = zip(*itertools.product(offsets, offsets, flips, turns), strict=True)
    return Draws(*(torch.tensor(column) for column in columns))


class TestWhatIsDone:
    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("shape", [(20, 3, 32, 32), (20, 1, 28, 28), (20, 2, 9, 14)])
    def test_it_is_what_was_drawn(self, device: str, shape: tuple[int, ...]) -> None:
        images = random_images(shape, device)
        transform = augment(images)
        indices = torch.arange(60) % 20
        draws = transform.draw(60)
        done = transform.apply(indices, draws)
        assert done.dtype == torch.float32
        assert done.device == images.train_images.device
        expected = naive_batch(images, indices, draws, padding=4)
        # In deviations, of which one is some 50 grey levels.
        assert (done.cpu() - expected).abs().max() < 1e-4

    @pytest.mark.parametrize(
        "policy",
        [
            PLAIN_POLICY,
            Policy(padding=4, flip=False, rotate=False),
            Policy(padding=2, flip=True, rotate=False),
            Policy(padding=0, flip=True, rotate=True),
            Policy(padding=1, flip=True, rotate=True),
        ],
    )
    def test_every_outcome_there_is(self, policy: Policy) -> None:
        images = random_images((3, 2, 8, 8))
        draws = every_outcome(policy)
        assert len(draws.top) == policy.outcomes
        indices = torch.arange(len(draws.top)) % 3
        done = augment(images, policy).apply(indices, draws)
        assert (done - naive_batch(images, indices, draws, policy.padding)).abs().max() < 1e-4

    def test_90_degrees_move_pixels_whole(self) -> None:
        images = random_images()
        transform = augment(images)
        whole = transform.standardise(images.train_images)
        still = torch.full((20,), 4)
        for quarters in range(1, 5):
            turns = torch.full((20,), 6 * quarters)
            draws = Draws(still, still, torch.zeros(20, dtype=torch.bool), turns)
            done = transform.apply(torch.arange(20), draws)
            # torch.rot90 turns from rows to columns: counter-clockwise with rows downwards.
            assert (done - whole.rot90(quarters, (2, 3))).abs().max() < 1e-5

    def test_plain_only_standardises(self) -> None:
        images = random_images()
        transform = augment(images, PLAIN_POLICY)
        indices = torch.tensor([3, 3, 0, 19])
        expected = transform.standardise(images.train_images[indices])
        assert torch.equal(transform(indices), expected)

    def test_what_comes_from_outside_is_black_before_standardisation(self) -> None:
        white = torch.full((2, 1, 8, 8), 200, dtype=torch.uint8)
        white[1] = 0
        labels = torch.zeros(2, dtype=torch.int64)
        transform = augment(Images(white, labels, white, labels, classes=1, name="white"))
        corner = Draws(*(torch.tensor([value]) for value in (0, 0, False, 24)))
        done = transform.apply(torch.tensor([0]), corner)[0, 0]
        assert (done[:4] + 1).abs().max() < 1e-4
        assert (done[:, :4] + 1).abs().max() < 1e-4
        assert (done[4:, 4:] - 1).abs().max() < 1e-4

    def test_images_of_floats(self) -> None:
        images = synthetic(Task(train=10, test=1, side=12))
        transform = augment(images)
        draws = transform.draw(10)
        expected = naive_batch(images, torch.arange(10), draws, padding=4)
        assert (transform.apply(torch.arange(10), draws) - expected).abs().max() < 1e-4

    def test_autocast_changes_nothing(self) -> None:
        transform = augment(random_images())
        draws = transform.draw(20)
        plain = transform.apply(torch.arange(20), draws)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(transform.apply(torch.arange(20), draws), plain)


@pytest.fixture(scope="module")
def draws() -> Draws:
    return augment(random_images()).draw(400_000)


class TestWhatIsDrawn:
    @pytest.mark.parametrize(
        ("name", "low", "high"),
        [("top", 0, 8), ("left", 0, 8), ("flipped", 0, 1), ("turns", 1, 24)],
    )
    def test_each_is_uniform(self, draws: Draws, name: str, low: int, high: int) -> None:
        values = getattr(draws, name)
        assert (int(values.min()), int(values.max())) == (low, high)
        assert chisquare(values.long().bincount()[low:].numpy()).pvalue > 1e-3

    def test_they_are_independent(self, draws: Draws) -> None:
        together = ((draws.top * 9 + draws.left) * 2 + draws.flipped) * 24 + draws.turns - 1
        counts = together.bincount(minlength=9 * 9 * 2 * 24).numpy()
        assert len(counts) == P1_POLICY.outcomes == 3888
        assert chisquare(counts).pvalue > 1e-3

    def test_one_image_does_not_tell_the_next(self, draws: Draws) -> None:
        for name in ("top", "left", "turns"):
            values = getattr(draws, name)
            pairs = values[:-1] * 25 + values[1:]
            counts = pairs.bincount().numpy()
            assert chisquare(counts[counts > 0]).pvalue > 1e-3

    def test_types(self, draws: Draws) -> None:
        assert draws.flipped.dtype == torch.bool
        assert {draws.top.dtype, draws.left.dtype, draws.turns.dtype} == {torch.int64}

    def test_without_rotation_there_are_no_turns(self) -> None:
        transform = augment(random_images(), Policy(padding=4, flip=True, rotate=False))
        draws = transform.draw(1000)
        assert not draws.turns.any()
        assert draws.flipped.double().mean() == pytest.approx(0.5, abs=0.05)

    def test_the_batches_themselves_are_uniform_over_all_outcomes(self) -> None:
        """Nothing of `draw` is believed: which outcome a batch shows is told by its pixels."""
        images = random_images((1, 1, 8, 8))
        policy = Policy(padding=1, flip=True, rotate=True)
        outcomes = every_outcome(policy)
        first = torch.zeros(len(outcomes.top), dtype=torch.int64)
        known = naive_batch(images, first, outcomes, padding=1).flatten(1)
        transform = augment(images, policy, seed=1)
        seen = transform(torch.zeros(8000, dtype=torch.int64)).flatten(1).double()
        distance, which = torch.cdist(seen, known).min(1)
        assert distance.max() < 1e-3
        counts = which.bincount(minlength=policy.outcomes).numpy()
        assert policy.outcomes == 9 * 2 * 24
        assert chisquare(counts).pvalue > 1e-3


class TestGenerator:
    @staticmethod
    def batches(transform: Augment) -> Iterator[Tensor]:
        while True:
            yield transform(torch.arange(5))

    @pytest.mark.parametrize("device", DEVICES)
    def test_the_same_seed_gives_the_same_batches(self, device: str) -> None:
        images = random_images(device=device)
        pairs = zip(
            self.batches(augment(images, seed=3)),
            self.batches(augment(images, seed=3)),
            strict=True,
        )
        assert all(torch.equal(one, two) for one, two in itertools.islice(pairs, 5))

    def test_every_call_and_every_seed_gives_others(self) -> None:
        one, two = (self.batches(augment(random_images(), seed=seed)) for seed in (3, 4))
        drawn = [next(one), next(one), next(two)]
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))

    @pytest.mark.parametrize("device", DEVICES)
    def test_its_state_is_all_the_state(self, device: str) -> None:
        images = random_images(device=device)
        transform = augment(images)
        transform(torch.arange(7))
        state = transform.generator.get_state()
        expected = [transform(torch.arange(5)) for _ in range(3)]
        resumed = augment(images, seed=99)
        resumed.generator.set_state(state)
        for batch in expected:
            assert torch.equal(resumed(torch.arange(5)), batch)

    def test_no_other_generator_is_touched(self) -> None:
        torch.manual_seed(1)
        state = torch.get_rng_state()
        transform = augment(random_images())
        one = transform(torch.arange(5))
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        assert torch.equal(augment(random_images())(torch.arange(5)), one)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_a_generator_of_the_host_draws_the_same_for_a_device(self) -> None:
        host, device = random_images(), random_images(device="cuda")
        one = Augment(host, Generator().manual_seed(0))(torch.arange(20))
        two = Augment(device, Generator().manual_seed(0))(torch.arange(20))
        assert (two.cpu() - one).abs().max() < 1e-4

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_tf32_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        transform = augment(random_images(device="cuda"))
        draws = transform.draw(20)
        plain = transform.apply(torch.arange(20), draws)
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        assert torch.equal(transform.apply(torch.arange(20), draws), plain)


class TestStandardise:
    @pytest.mark.parametrize("device", DEVICES)
    def test_training_images_get_mean_0_and_deviation_1(self, device: str) -> None:
        # More than are summed at once, and no multiple of that.
        images = random_images((2345, 3, 6, 6), device).train_images
        standardise = Standardise.fitted(images)
        pixels = images.cpu().numpy().astype(np.float64)
        mean, deviation = standardise.mean.cpu().numpy(), standardise.deviation.cpu().numpy()
        assert mean.shape == (3, 1, 1)
        assert mean.ravel() == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-6)
        assert deviation.ravel() == pytest.approx(pixels.std((0, 2, 3)), rel=1e-6)
        done = standardise(images).double()
        assert done.mean((0, 2, 3)).abs().max() < 1e-6
        assert (done.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-6

    def test_it_is_fitted_to_the_training_images_only(self) -> None:
        images = random_images()
        other = dataclasses.replace(images, test_images=images.test_images // 3)
        assert torch.equal(
            augment(images).standardise.deviation, augment(other).standardise.deviation
        )
        darker = dataclasses.replace(images, train_images=images.train_images // 3)
        assert (augment(darker).standardise.mean < augment(images).standardise.mean).all()

    @pytest.mark.parametrize("value", [0, 255, 0.1])
    def test_a_constant_channel_becomes_0(self, value: float) -> None:
        images = random_images().train_images
        if value == 0.1:
            images = images.float()
        images[:, 1] = value
        done = Standardise.fitted(images)(images)
        assert done[:, 1].abs().max() < 1e-6
        assert done[:, 0].std() == pytest.approx(1, abs=1e-3)
