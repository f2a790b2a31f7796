"""The original files of each data set: names, sizes, MD5 checksums, and where they come from.

A checksum is that of the unpacked file, so that it makes no difference whether it lies beside
its archive, in it, or gzipped. It guards against damaged files and those of another data set
(MNIST's and Fashion-MNIST's have the same names); no other guarantee is taken from MD5.

Each was found equal in two or more independent public programs that check their downloads; those
of CIFAR-10's python version and of SVHN are in torchvision's list too. Sizes: the idx header or
3073-byte records times the number of images where the layout fixes them, else as below.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One file.

    Attributes:
        name: without .gz.
        md5: of its content, as 32 hexadecimal digits.
        size: bytes; no other copy may have more.
    """

    name: str
    md5: str
    size: int


@dataclass(frozen=True, slots=True)
class Archive:
    """A gzipped tar of all files.

    Attributes:
        name: of the file.
        folder: where its members are.
        size: how many bytes it may unpack to.
    """

    name: str
    folder: str
    size: int


@dataclass(frozen=True, slots=True)
class Form:
    """One of the forms in which a data set is given out.

    Attributes:
        name: for messages.
        folders: where its files may lie below the directory that the user names; "" is itself.
        parts: its files, in the order in which they are read.
        archive: the file that holds them all, if there is one.
    """

    name: str
    folders: tuple[str, ...]
    parts: tuple[Part, ...]
    archive: Archive | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """A data set as its makers give it out.

    Attributes:
        title: its name.
        home: where its files come from.
        forms: in the order of preference.
    """

    title: str
    home: str
    forms: tuple[Form, ...]


# Ours: the largest of the six has 31,035,999 bytes.
CIFAR_PICKLE = 32_000_000
CIFAR_RECORDS = 10_000 * 3073
# Ours: six files, three small ones, and a block of padding each.
CIFAR_ARCHIVE = 200_000_000

CIFAR10 = Original(
    title="CIFAR-10",
    home="https://www.cs.toronto.edu/~kriz/cifar.html",
    forms=(
        Form(
            name="python version",
            folders=("cifar-10-batches-py", ""),
            parts=(
                Part("data_batch_1", "c99cafc152244af753f735de768cd75f", CIFAR_PICKLE),
                Part("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec", CIFAR_PICKLE),
                Part("data_batch_3", "54ebc095f3ab1f0389bbae665268c751", CIFAR_PICKLE),
                Part("data_batch_4", "634d18415352ddfa80567beed471001a", CIFAR_PICKLE),
                Part("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb", CIFAR_PICKLE),
                Part("test_batch", "40351d587109b95175f43aff81a1287e", CIFAR_PICKLE),
            ),
            archive=Archive("cifar-10-python.tar.gz", "cifar-10-batches-py", CIFAR_ARCHIVE),
        ),
        Form(
            name="binary version",
            folders=("cifar-10-batches-bin", ""),
            parts=(
                Part("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25", CIFAR_RECORDS),
                Part("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692", CIFAR_RECORDS),
                Part("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421", CIFAR_RECORDS),
                Part("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb", CIFAR_RECORDS),
                Part("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d", CIFAR_RECORDS),
                Part("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d", CIFAR_RECORDS),
            ),
            archive=Archive("cifar-10-binary.tar.gz", "cifar-10-batches-bin", CIFAR_ARCHIVE),
        ),
    ),
)

MNIST = Original(
    title="MNIST",
    home="http://yann.lecun.com/exdb/mnist/",
    forms=(
        Form(
            name="idx files",
            folders=("mnist", "MNIST/raw", ""),
            parts=(
                Part("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", 47_040_016),
                Part("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", 60_008),
                Part("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", 7_840_016),
                Part("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", 10_008),
            ),
        ),
    ),
)

FASHION_MNIST = Original(
    title="Fashion-MNIST",
    home="https://github.com/zalandoresearch/fashion-mnist",
    forms=(
        Form(
            name="idx files",
            folders=("fashion-mnist", "FashionMNIST/raw", ""),
            parts=(
                Part("train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a", 47_040_016),
                Part("train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9", 60_008),
                Part("t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a", 7_840_016),
                Part("t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965", 10_008),
            ),
        ),
    ),
)

SVHN = Original(
    title="SVHN",
    home="http://ufldl.stanford.edu/housenumbers/ (Format 2, cropped digits)",
    forms=(
        Form(
            name="MATLAB files",
            folders=("svhn", ""),
            parts=(
                # The sizes are those of the files; their images take 3072 bytes each unpacked.
                Part("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", 182_040_794),
                Part("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", 64_275_384),
            ),
        ),
    ),
)

ORIGINALS = (CIFAR10, MNIST, FASHION_MNIST, SVHN)


def owner(md5: str) -> tuple[Original, Part] | None:
    """Which file of which data set has this checksum."""
    for original in ORIGINALS:
        for form in original.forms:
            for part in form.parts:
                if part.md5 == md5:
                    return original, part
    return None
