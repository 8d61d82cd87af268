"""The ids of a collection as a mapping that holds none of them: they stay in the table."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView

from resight.store.tables import Tables


class PhotoIds(Mapping[str, int]):
    """Row of every photo of a snapshot, by id. One id is looked up in the index; going through all reads a batch of
    the table at a time, in the order in which they lie there.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def __getitem__(self, id_: object) -> int:
        rows = self._tables.find("id", [id_], ["row"])["row"].to_pylist() if isinstance(id_, str) else []
        if not rows:
            raise KeyError(id_)
        return int(rows[-1])  # a damaged table may hold an id twice: the newest counts

    def __len__(self) -> int:
        return len(self._tables)

    def __iter__(self) -> Iterator[str]:
        return (id_ for id_, _ in self._pairs())

    def items(self) -> ItemsView[str, int]:
        """Ids and rows."""
        return _Items(self)

    def values(self) -> ValuesView[int]:
        """Rows."""
        return _Values(self)

    def _pairs(self) -> Iterator[tuple[str, int]]:
        for batch in self._tables.stream(["id", "row"]):
            yield from zip(batch["id"].to_pylist(), batch["row"].to_pylist(), strict=True)


class _Items(ItemsView[str, int]):
    def __init__(self, ids: PhotoIds) -> None:
        super().__init__(ids)
        self._ids = ids

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return self._ids._pairs()


class _Values(ValuesView[int]):
    def __init__(self, ids: PhotoIds) -> None:
        super().__init__(ids)
        self._ids = ids

    def __iter__(self) -> Iterator[int]:
        return (row for _, row in self._ids._pairs())
