"""MovieLens-100K's loader, on small files of its format and on files that are not of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscope.errors import InputRejected, UsageError
from tests.trainers.movielens import planted
from trainers.movielens.files import ITEMS, MOST_BYTES, USERS, Ratings, Split, load, read_ratings
from trainers.movielens.splits import FIXED, NAMES, RANDOM

Rows = set[tuple[int, ...]]


def rows(*parts: Ratings) -> Rows:
    return {
        row
        for part in parts
        for row in zip(part.users.tolist(), part.items.tolist(), part.values.tolist(), strict=True)
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    planted.write(tmp_path / "u.data", planted.ratings(30, 40, 200))
    return tmp_path


def rejected(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputRejected) as caught:
        read_ratings(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    assert len(line) < 400
    return line


class TestReading:
    def test_equals_a_naive_reading(self, folder: Path) -> None:
        lines = (folder / "u.data").read_text().splitlines()
        expected = [[int(number) for number in line.split("\t")] for line in lines]
        read = read_ratings(folder / "u.data")
        assert read.users.tolist() == [user - 1 for user, *_ in expected]
        assert read.items.tolist() == [item - 1 for _, item, *_ in expected]
        assert read.values.tolist() == [value for _, _, value, _ in expected]
        assert read.values.sum() == sum(value for _, _, value, _ in expected)

    def test_the_corners_of_the_matrix(self, tmp_path: Path) -> None:
        path = tmp_path / "u.data"
        path.write_bytes(b"1\t1\t1\t0\n943\t1682\t5\t893286638\n")
        assert rows(read_ratings(path)) == {(0, 0, 1), (USERS - 1, ITEMS - 1, 5)}
        assert (USERS, ITEMS) == (943, 1682)

    @pytest.mark.parametrize(
        "content", [b"1\t2\t3\t4\r\n5\t6\t1\t8\r\n", b"1\t2\t3\t4\n5\t6\t1\t8"]
    )
    def test_other_line_ends(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "u.data"
        path.write_bytes(content)
        assert rows(read_ratings(path)) == {(0, 1, 3), (4, 5, 1)}

    def test_the_whole_matrix_fits_the_bound_on_the_size(self) -> None:
        assert MOST_BYTES > 1_979_173 + 100_000  # u.data, and with Windows' line ends


class TestRejected:
    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"1\t2\t3", "expected four whole numbers between tabs"),
            (b"1\t2\t3\t4\t5", "expected four whole numbers between tabs"),
            (b"1 2 3 4", "line 2 is '1 2 3 4', expected four"),
            (b"1::2::3::978300760", "later MovieLens files"),
            (b"1,2,3.5,4", "later MovieLens files"),
            (b"user\titem\trating\ttime", "line 2 is"),
            (b"1\t2\t3.0\t4", "expected four whole numbers"),
            (b"1\t2\tnan\t4", "expected four whole numbers"),
            (b"-1\t2\t3\t4", "expected four whole numbers"),
            (b"1\t2\t3\t4 ", "expected four whole numbers"),
            (b"", "line 2 is '', expected"),
            (b"1\t" + b"9" * 5000 + b"\t3\t4", "expected four whole numbers"),
            (b"0\t2\t3\t4", "line 2 has user 0, expected 1 to 943"),
            (b"944\t2\t3\t4", "line 2 has user 944, expected 1 to 943"),
            (b"1\t0\t3\t4", "line 2 has item 0, expected 1 to 1682"),
            (b"1\t1683\t3\t4", "line 2 has item 1683, expected 1 to 1682"),
            (b"1\t2\t0\t4", "line 2 has rating 0, expected 1 to 5"),
            (b"1\t2\t6\t4", "line 2 has rating 6, expected 1 to 5"),
            (b"7\t7\t2\t9", "lines 1 and 2 both have user 7 and item 7, expected one"),
            ("1\t2\t3\t٤".encode(), "is not plain ASCII text"),
            (b"1\t2\t3\t4\0", "is not plain ASCII text"),
        ],
    )
    def test_a_line(self, tmp_path: Path, line: bytes, reason: str) -> None:
        assert reason in rejected(tmp_path / "u.data", b"7\t7\t1\t9\n" + line + b"\n8\t8\t1\t9\n")

    @pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\n"])
    def test_nothing(self, tmp_path: Path, content: bytes) -> None:
        assert "is empty, expected one rating a line" in rejected(tmp_path / "u.data", content)

    def test_other_encodings(self, folder: Path) -> None:
        text = (folder / "u.data").read_text()
        for encoding in ("utf-16", "utf-16-be", "utf-32", "utf-8-sig"):
            assert "plain ASCII" in rejected(folder / "u.data", text.encode(encoding))

    def test_one_that_is_too_large(self, tmp_path: Path) -> None:
        content = b"1\t2\t3\t4\n" * (MOST_BYTES // 8 + 1)
        assert f"more than {MOST_BYTES} bytes" in rejected(tmp_path / "u.data", content)

    def test_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "u.data").mkdir()
        with pytest.raises(InputRejected, match="is not a plain file"):
            load(tmp_path, "90/10")

    @given(data=st.data())
    def test_any_bytes_are_read_or_refused(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        content = bytearray(planted.text(planted.ratings(9, 9, 6)))
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
        path = tmp_path_factory.mktemp("fuzz", numbered=True) / "u.data"
        path.write_bytes(content)
        try:
            read = read_ratings(path)
        except InputRejected:
            return
        assert len(rows(read)) == len(read) > 0
        assert set(read.values.tolist()) <= {1, 2, 3, 4, 5}


class TestSplits:
    @pytest.mark.parametrize(("name", "tested"), [("90/10", 20), ("80/20", 40)])
    def test_random_ones(self, folder: Path, name: str, tested: int) -> None:
        whole = rows(read_ratings(folder / "u.data"))
        split, again, other = (load(folder, name, seed=seed) for seed in (3, 3, 4))
        assert (len(split.train), len(split.test)) == (200 - tested, tested)
        assert rows(split.train, split.test) == whole
        assert not rows(split.train) & rows(split.test)
        assert rows(split.test) == rows(again.test) != rows(other.test)

    def test_every_rating_is_as_likely_to_be_tested(self, folder: Path) -> None:
        whole = read_ratings(folder / "u.data")
        counts = dict.fromkeys(rows(whole), 0)
        for seed in range(200):
            for row in rows(load(folder, "80/20", seed=seed).test):
                counts[row] += 1
        # Binomial, 200 draws with 0.2: mean 40, deviation 5.7; within 5 deviations.
        assert 11 < min(counts.values()) <= max(counts.values()) < 69
        assert sum(counts.values()) == 200 * 40

    @pytest.mark.parametrize("name", FIXED)
    def test_those_that_come_as_files(self, tmp_path: Path, name: str) -> None:
        whole = planted.ratings(30, 40, 200)
        train, test = whole.take(np.arange(150)), whole.take(np.arange(150, 200))
        planted.write(tmp_path / "ml-100k" / f"{name}.base", train)
        planted.write(tmp_path / "ml-100k" / f"{name}.test", test)
        for directory in (tmp_path, tmp_path / "ml-100k"):
            split = load(directory, name)
            assert (rows(split.train), rows(split.test)) == (rows(train), rows(test))
            assert split.name == name

    def test_a_rating_in_both_files(self, tmp_path: Path) -> None:
        whole = planted.ratings(30, 40, 200)
        planted.write(tmp_path / "ua.base", whole.take(np.arange(150)))
        planted.write(tmp_path / "ua.test", whole.take(np.array([180, 7, 190])))
        pair = f"user {whole.users[7] + 1} and item {whole.items[7] + 1}"
        with pytest.raises(InputRejected, match=f"ua.test: line 2 has {pair}, as ua.base has"):
            load(tmp_path, "ua")

    @pytest.mark.parametrize("name", NAMES)
    def test_a_missing_file_is_named_with_its_source(self, tmp_path: Path, name: str) -> None:
        file = "u.data" if name in RANDOM else f"{name}.base"
        with pytest.raises(InputRejected, match=rf"has no {file}: .*ml-100k\.zip .*GroupLens"):
            load(tmp_path, name)
        with pytest.raises(InputRejected, match=f"is no directory; {file} is expected in it"):
            load(tmp_path / "none", name)

    def test_a_missing_test_file(self, tmp_path: Path) -> None:
        planted.write(tmp_path / "u3.base", planted.ratings(30, 40, 200))
        with pytest.raises(InputRejected, match=r"has no u3\.test"):
            load(tmp_path, "u3")

    def test_an_unknown_one(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no split '70/30'; there are 90/10, 80/20, ua"):
            load(tmp_path, "70/30")

    def test_one_rating_cannot_be_divided(self, tmp_path: Path) -> None:
        (tmp_path / "u.data").write_bytes(b"1\t2\t3\t4\n")
        with pytest.raises(UsageError, match="needs at least two"):
            load(tmp_path, "90/10")

    def test_another_number_of_ratings_is_remarked(self, folder: Path) -> None:
        split = load(folder, "90/10")
        assert split.remark is not None
        assert split.remark.startswith("there are 200 ratings, MovieLens-100K has 100000")
        many = split.train.take(np.zeros(100_000 - len(split.test), np.int64))
        assert dataclasses.replace(split, train=many).remark is None
        assert isinstance(split, Split)
