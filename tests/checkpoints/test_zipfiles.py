"""Where zip entries lie: against Python's zipfile, then archives that lie about it."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from rankscope.checkpoints import zipfiles
from rankscope.checkpoints.zipfiles import Entry, zip_entries
from rankscope.errors import InputRejected
from rankscope.files import LocalFile

CONTENT = {"a.npy": b"alpha" * 20, "dir/b": b"", "dir/c.bin": bytes(range(256))}


def archive(content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, data in content.items():
            made.writestr(name, data)
    return buffer.getvalue()


def entries(tmp_path: Path, data: bytes) -> dict[str, Entry]:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    return zip_entries(LocalFile(path))


def refused(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(InputRejected) as caught:
        entries(tmp_path, data)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def patched(data: bytes, at: int, layout: str, value: int) -> bytes:
    return data[:at] + struct.pack(layout, value) + data[at + struct.calcsize(layout) :]


def central(data: bytes, number: int = 0) -> int:
    """Where the central directory's record begins."""
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    return at


class TestSound:
    def check(self, path: Path) -> None:
        file = LocalFile(path)
        found = zip_entries(file)
        with zipfile.ZipFile(path) as oracle:
            assert list(found) == oracle.namelist()
            for name, entry in found.items():
                assert entry.stored
                assert bytes(file.read(entry.offset, entry.size)) == oracle.read(name)
        file.close()

    def test_zipfile(self, tmp_path: Path) -> None:
        (tmp_path / "a.zip").write_bytes(archive(CONTENT))
        self.check(tmp_path / "a.zip")

    def test_zipfile_with_a_comment_and_names_in_two_encodings(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
            made.writestr("schön/重み", b"utf-8")
            made.writestr("plain", b"ascii")
            made.comment = b"a comment"
        self.check(tmp_path / "a.zip")
        data = (tmp_path / "a.zip").read_bytes().replace(b"plain", b"pl\x84in")
        assert "pläin" in entries(tmp_path, data)

    def test_zip64_by_zipfile_numpy_and_torch(self, tmp_path: Path) -> None:
        with (
            zipfile.ZipFile(tmp_path / "a.zip", "w") as made,
            made.open("w", "w", force_zip64=True) as entry,
        ):
            entry.write(b"data")
        np.savez(tmp_path / "b.npz", w=np.ones(3), v=np.ones(2))
        torch.save({"w": torch.ones(3)}, tmp_path / "c.pt")
        for name in ("a.zip", "b.npz", "c.pt"):
            self.check(tmp_path / name)

    def test_sizes_that_only_zip64_can_hold(self, tmp_path: Path) -> None:
        """A sparse file: 5 GiB of zeros in one entry, another entry behind it."""
        path = tmp_path / "big.zip"
        size = 5 * 2**30
        with open(path, "w+b") as file:
            file.write(
                struct.pack("<4s5H3I2H", b"PK\x03\x04", 45, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
            )
            file.seek(size, io.SEEK_CUR)
            second = file.tell()
            file.write(struct.pack("<4s5H3I2H", b"PK\x03\x04", 45, 0, 0, 0, 0, 0, 4, 4, 1, 0))
            file.write(b"bdata")
            start = file.tell()
            wide = 0xFFFFFFFF
            for name, fields, small in [
                (b"a", (size, size), (wide, wide, 0)),
                (b"b", (second,), (4, 4, wide)),
            ]:
                extra = struct.pack(f"<2H{len(fields)}Q", 1, 8 * len(fields), *fields)
                packed, full, offset = small
                head = (b"PK\x01\x02", 45, 45, 0, 0, 0, 0, 0, packed, full, 1, len(extra), 0, 0, 0)
                file.write(struct.pack("<4s6H3I5H2I", *head, 0, offset) + name + extra)
            end = file.tell()
            record = (b"PK\x06\x06", 44, 45, 45, 0, 0, 2, 2, end - start, start)
            file.write(struct.pack("<4sQ2H2I4Q", *record))
            file.write(struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1))
            file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, wide, wide, 0))
        with zipfile.ZipFile(path) as oracle:  # what we wrote is what zipfile reads
            assert [(i.file_size, i.header_offset) for i in oracle.infolist()] == [
                (size, 0),
                (4, second),
            ]
        found = zip_entries(LocalFile(path))
        assert found == {
            "a": Entry(31, size, "stored", size, 0),
            "b": Entry(second + 31, 4, "stored", 4, 0),
        }

    def test_compressed_entries_say_so(self, tmp_path: Path) -> None:
        found = entries(tmp_path, archive({"a": b"x" * 99}, zipfile.ZIP_DEFLATED))["a"]
        assert (found.method, found.size, found.stored) == ("deflate", 99, False)


class TestRefused:
    @pytest.fixture
    def sound(self) -> bytes:
        return archive(CONTENT)

    def test_every_truncation(self, tmp_path: Path, sound: bytes) -> None:
        for length in range(len(sound)):
            refused(tmp_path, sound[:length])

    def test_every_byte_of_a_directory_changed(self, tmp_path: Path, sound: bytes) -> None:
        """Any outcome but a crash; entries that are accepted lie within the file."""
        for at in range(central(sound), len(sound)):
            for change in (0x01, 0x80, 0xFF):
                damaged = patched(sound, at, "B", sound[at] ^ change)
                try:
                    found = entries(tmp_path, damaged)
                except InputRejected:
                    continue
                assert all(e.offset + e.size <= len(sound) for e in found.values() if e.stored)

    def test_bytes_after_and_before(self, tmp_path: Path, sound: bytes) -> None:
        assert "trailing bytes" in refused(tmp_path, sound + b"x")
        assert "before the archive" in refused(tmp_path, b"x" + sound)

    def test_not_a_zip(self, tmp_path: Path) -> None:
        for data in (b"", b"PK\x05\x06", b"nothing of the kind" * 10):
            assert "without an end record" in refused(tmp_path, data)

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_a_name_twice(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as made:
            made.writestr("a", b"1")
            made.writestr("a", b"2")
        assert "stands twice" in refused(tmp_path, buffer.getvalue())

    @pytest.mark.parametrize(
        ("at", "layout", "value", "found"),
        [
            (8, "<H", 1, "encrypted"),
            (8, "<H", 1 << 13, "encrypted"),
            (8, "<H", 1 << 6, "encrypted"),
            (10, "<H", 8, "does not agree"),
            (20, "<I", 99, "takes 99"),
            (24, "<I", 101, "stored zip entry of 101 bytes takes 100"),
            (28, "<H", 5000, "damaged"),
            (34, "<H", 1, "disk 1"),
            (42, "<I", 1, "does not agree"),
            (42, "<I", 10**6, "outside the file"),
            (46, "B", 0, "NUL"),
            (46, "B", ord("b"), "does not agree"),
        ],
    )
    def test_a_directory_record_that_lies(
        self, tmp_path: Path, sound: bytes, at: int, layout: str, value: int, found: str
    ) -> None:
        assert found in refused(tmp_path, patched(sound, central(sound) + at, layout, value))

    @pytest.mark.parametrize(
        ("at", "value"), [(0, 0), (6, 1), (8, 8), (26, 4), (28, 60000), (30, 0x6262)]
    )
    def test_a_local_header_that_lies(
        self, tmp_path: Path, sound: bytes, at: int, value: int
    ) -> None:
        found = refused(tmp_path, patched(sound, at, "<H", value))
        assert "does not agree" in found or "reaches past" in found

    def test_an_entry_longer_than_what_is_there(self, tmp_path: Path, sound: bytes) -> None:
        at = central(sound)
        longer = patched(patched(sound, at + 20, "<I", 5000), at + 24, "<I", 5000)
        assert "reaches past" in refused(tmp_path, longer)

    def test_entries_that_overlap(self, tmp_path: Path, sound: bytes) -> None:
        """The first entry claims the bytes of the second too (a zip bomb of overlaps)."""
        at = central(sound)
        longer = patched(patched(sound, at + 20, "<I", 120), at + 24, "<I", 120)
        assert "overlap: 'a.npy' and 'dir/b'" in refused(tmp_path, longer)

    def test_two_names_for_one_header(self, tmp_path: Path) -> None:
        data = archive({"a": b"1", "b": b"2"})
        at = central(data, 1)
        same = patched(patched(data, at + 42, "<I", 0), at + 46, "B", ord("a"))
        assert "twice" in refused(tmp_path, same)
        assert "does not agree" in refused(tmp_path, patched(data, at + 42, "<I", 0))

    @pytest.mark.parametrize(
        ("at", "layout", "value", "found"),
        [
            (4, "<H", 1, "several disks"),
            (6, "<H", 1, "several disks"),
            (8, "<H", 2, "several disks"),
            (12, "<I", 10**9, "does not reach"),
            (16, "<I", 0, "does not reach"),
            (20, "<H", 1, "do not end the file"),
        ],
    )
    def test_an_end_record_that_lies(
        self, tmp_path: Path, sound: bytes, at: int, layout: str, value: int, found: str
    ) -> None:
        assert found in refused(tmp_path, patched(sound, len(sound) - 22 + at, layout, value))

    def test_a_count_that_the_directory_does_not_hold(self, tmp_path: Path, sound: bytes) -> None:
        end = len(sound) - 22
        for count, found in [(2, "its 2 entries"), (4, "ends within an entry")]:
            lie = patched(patched(sound, end + 8, "<H", count), end + 10, "<H", count)
            assert found in refused(tmp_path, lie)

    @pytest.mark.parametrize(
        ("at", "layout", "value", "found"),
        [
            (56 + 8, "<Q", 2**63, "outside the file"),
            (56 + 16, "<I", 2, "another disk"),
            (0, "<I", 0, "not where its locator says"),
            (4, "<Q", 2**60, "not where its locator says"),
            (32, "<Q", 2**40, "several disks"),
            (40, "<Q", 2**63, "does not reach"),
            (48, "<Q", 2**63, "does not reach"),
        ],
    )
    def test_zip64_records_that_lie(
        self, tmp_path: Path, at: int, layout: str, value: int, found: str
    ) -> None:
        torch.save({"w": torch.ones(3)}, tmp_path / "c.pt")
        data = (tmp_path / "c.pt").read_bytes()
        record = data.index(b"PK\x06\x06")
        assert found in refused(tmp_path, patched(data, record + at, layout, value))

    def test_too_many_entries(
        self, tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(zipfiles, "MAX_ENTRIES", 2)
        assert "3 entries" in refused(tmp_path, sound)
