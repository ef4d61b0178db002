"""The shards of an index, loaded by number, for processes that each hold some of them."""

from raylevance.artifacts import Store
from raylevance.data.groups import Allowed
from raylevance.index.fusion import Ranking
from raylevance.index.products import read_header, shard_folders
from raylevance.index.ranking import Rows
from raylevance.index.shards import IndexShard, Shards, damaged
from raylevance.index.vectors import Vectors

__all__ = ["Allowed", "IndexShard", "Ranking", "Rows", "Shards", "Vectors", "load"]


def load(store: Store, reference: str, process: int, processes: int, *, use_gpu: bool = False) -> dict[int, IndexShard]:
    """Load the shards process, process + processes, ... of `index/NAME[@VERSION]`, by number.

    An index without shards is the shard 0. Raises `RaylevanceError` when a file is missing or damaged, or if a GPU
    that `use_gpu` asks for can't search it.
    """
    folder = store.path(reference)
    header = read_header(folder)
    places, sizes, loaded = shard_folders(folder, header), header.shards or [header.products], {}
    for number in range(process, len(sizes), processes):
        place = places[number]
        loaded[number] = IndexShard.load(place, use_gpu=use_gpu)
        if len(loaded[number]) != sizes[number]:
            raise damaged(place, f"expected {sizes[number]} products, got {len(loaded[number])}")
    return loaded
