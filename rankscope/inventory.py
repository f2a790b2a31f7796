"""Series -> what each snapshot holds and which of its matrices are wanted, from headers alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from rankscope.checkpoints import needs_isolation
from rankscope.checkpoints.directory import INDEX_SUFFIX, shards_of
from rankscope.errors import InputRejected
from rankscope.executors import Executor, InlineExecutor, ProcessExecutor, ThreadExecutor
from rankscope.identities import Identity
from rankscope.matrices import Selection, check_selection, select
from rankscope.places import RemotePath, WholePath, text_of
from rankscope.presence import REMOTE_THREADS, fixed, names, stands_alone
from rankscope.records import Listing, MatrixSpec, Skipped
from rankscope.series import Series, Snapshot
from rankscope.store import SpectrumStore
from rankscope.worker import list_checkpoint

# HDF5 headers of 10 000 datasets are read in about 2 s on the machine of docs/performance.md.
LISTING_SECONDS = 60.0

CRASHED = "the library that reads this format crashed or hung on it: damaged?"

Place = tuple[PurePath, PurePath | None]  # a checkpoint, and the model that it is merged into


@dataclass(frozen=True, slots=True)
class Entry:
    """One snapshot of one series and what is wanted of it.

    Attributes:
        series: which of the series asked for.
        snapshot: path and step.
        listing: everything it holds.
        specs: the matrices to measure.
        skipped: everything else, with the reason.
        remembered: the listing was not read again, because no file has changed.
        seen: the identity of its files from before it was listed; () when that is not sure.
    """

    series: int
    snapshot: Snapshot
    listing: Listing
    specs: tuple[MatrixSpec, ...]
    skipped: tuple[Skipped, ...]
    remembered: bool
    seen: tuple[Identity, ...] = ()


@dataclass(slots=True)
class Inventory:
    """All snapshots of all series.

    Attributes:
        series: as asked for.
        entries: in the order of series and step.
        rejected: snapshots that could not be listed: (which series, error).
    """

    series: Sequence[Series]
    entries: list[Entry] = field(default_factory=list)
    rejected: list[tuple[int, InputRejected]] = field(default_factory=list)


def take_inventory(
    all_series: Sequence[Series], selection: Selection, stores: Sequence[SpectrumStore]
) -> Inventory:
    """List every snapshot, from memory where nothing has changed.

    Args:
        all_series: what was asked for.
        selection: which matrices are wanted.
        stores: for each series, what remembers its listings.

    Raises:
        InputRejected: no snapshot is sound; the first one's error.
        UsageError: a glob matches no matrix in any snapshot.
    """
    inventory = Inventory(all_series)
    places = [(i, snapshot) for i, one in enumerate(all_series) for snapshot in one.snapshots]
    known = {(i, snapshot): _remembered(stores[i], snapshot) for i, snapshot in places}
    fresh = dict(_list([_place(snapshot) for (_, snapshot), found in known.items() if not found]))
    for index, snapshot in places:
        listing = known[index, snapshot]
        remembered = listing is not None
        seen = stores[index].seen(snapshot.path) if remembered else ()
        if listing is None:
            found = fresh[_place(snapshot)]
            if isinstance(found, InputRejected):
                inventory.rejected.append((index, found))
                continue
            listing, seen = found
            if snapshot.base is None:
                stores[index].remember(snapshot.path, listing, seen)
        specs, skipped = select(listing, selection)
        inventory.entries.append(Entry(index, snapshot, listing, specs, skipped, remembered, seen))
    if not places:
        first = all_series[0]
        reason = first.skipped[0].reason if first.skipped else "holds no snapshot"
        raise InputRejected(first.path, reason)
    if inventory.rejected and not inventory.entries:
        raise inventory.rejected[0][1]
    check_selection(selection, [entry.listing for entry in inventory.entries])
    return inventory


def check_downloads(all_series: Sequence[Series]) -> None:
    """Have what was fetched of snapshots in an earlier analysis compared, or fetched anew."""
    from rankscope.remote.downloads import forget_damaged

    whole = [path for one in all_series for snapshot in one.snapshots for path in _place(snapshot)]
    for path in dict.fromkeys(path for path in whole if isinstance(path, WholePath)):
        forget_damaged(path)
        beside: list[PurePath] = []
        if not stands_alone(path):
            beside += [path.parent / name for name in names(path.parent)]
        if not beside and path.name.endswith(INDEX_SUFFIX):  # of a server without listings
            beside = shards_of(path)
        for file in beside:
            if isinstance(file, WholePath) and file != path:
                forget_damaged(file)


def _remembered(store: SpectrumStore, snapshot: Snapshot) -> Listing | None:
    """What a store remembers; nothing of what depends on another model too."""
    return store.listing(snapshot.path) if snapshot.base is None else None


def _place(snapshot: Snapshot) -> Place:
    return snapshot.path, snapshot.base


def saved_beside(inventory: Inventory, series: int) -> set[str]:
    """The names of everything in a series' snapshots that is no matrix to be measured."""
    return {
        item.name for entry in inventory.entries if entry.series == series for item in entry.skipped
    }


def _list(
    places: Iterable[Place],
) -> Iterator[tuple[Place, tuple[Listing, tuple[Identity, ...]] | InputRejected]]:
    """Listings, in a child process for formats whose library a corrupt file can crash."""
    safe: list[Place] = []
    isolated: list[Place] = []
    distinct = list(dict.fromkeys(places))
    remote = any(isinstance(path, RemotePath) for place in distinct for path in place)
    here: Executor = ThreadExecutor(REMOTE_THREADS) if remote else InlineExecutor()
    for crash in here.run(_can_crash, distinct):
        if isinstance(crash.result, InputRejected):
            yield crash.item, crash.result
        else:
            (isolated if crash.result else safe).append(crash.item)
    for done in here.run(_listed, safe) if safe else ():
        yield done.item, done.result or InputRejected(done.item[0], CRASHED)
    # The child knows nothing of what names stand for here: it is given what they stand for.
    by_fixed: dict[Place, list[Place]] = defaultdict(list)
    for place in isolated:
        by_fixed[_fixed(place)].append(place)
    child = ProcessExecutor(1, limit=LISTING_SECONDS)
    for done in child.run(_listed, list(by_fixed)) if by_fixed else ():
        for place in by_fixed[done.item]:
            found = done.result or InputRejected(done.item[0], CRASHED)
            yield place, _under_own_name(found, done.item, place)


def _fixed(place: Place) -> Place:
    path, base = place
    return fixed(path), None if base is None else fixed(base)


def _under_own_name(
    found: tuple[Listing, tuple[Identity, ...]] | InputRejected, there: Place, place: Place
) -> tuple[Listing, tuple[Identity, ...]] | InputRejected:
    """What was found of a place where nothing changes, as if found under the names that can move.

    So that it is known which names to look at again.
    """
    pairs = [(a, b) for a, b in zip(there, place, strict=True) if a and b and a != b]
    if not pairs:
        return found
    roots = [_roots(a, b) for a, b in pairs]

    def named(text: str) -> str:
        for root, own in roots:
            if text == root or text.startswith(root + "/"):
                return own + text.removeprefix(root)
        return text

    if isinstance(found, InputRejected):
        return InputRejected(named(found.path), found.reason, tensor=found.tensor)
    listing, seen = found
    listing = replace(
        listing,
        path=named(listing.path),
        files=tuple(map(named, listing.files)),
        hints=tuple(map(named, listing.hints)),
    )
    return listing, tuple(one._replace(path=named(one.path)) for one in seen)


def _roots(there: PurePath, own: PurePath) -> tuple[str, str]:
    """The repositories of the same file: what stands before all that is the same in both."""
    while there.name == own.name:
        there, own = there.parent, own.parent
    return text_of(there), text_of(own)


def _can_crash(place: Place) -> bool | InputRejected:
    """Whether opening a checkpoint can end the process."""
    try:
        return any(needs_isolation(path) for path in place if path is not None)
    except InputRejected as error:
        return error


def _listed(place: Place) -> tuple[Listing, tuple[Identity, ...]] | InputRejected:
    return list_checkpoint(*place)
