"""The item encoder against its formula in float64, and vectors of items that training never saw."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from raylevance.errors import RaylevanceError
from raylevance.models.item_encoder import ItemEncoder, ItemEncoderSettings, NeighbourAttention
from raylevance.models.item_features import CATEGORY, ItemVocabulary, numbered_categories

PRODUCTS = pa.table(
    {
        "product_id": ["a", "b", "c", "d"],
        "category": pa.array([["x", "y"], None, ["x"], []], pa.list_(pa.string())),
        "brand": pa.array(["é", None, "é", "z"]),
        "price": pa.array([10.0, 0.0, None, 30.0]),
    }
)
VOCABULARY = ItemVocabulary.of(PRODUCTS)


def encoder(**settings: object) -> ItemEncoder:
    torch.manual_seed(0)
    model = ItemEncoder(ItemEncoderSettings(dimension=6, **settings), VOCABULARY, items=4, text_size=0)  # type: ignore[arg-type]
    return model.double().eval()


def test_features_that_are_missing_or_unknown_are_number_0() -> None:
    other = pa.table(
        {"category": [["x", "y"], ["x", "other"]], "brand": ["nobody", "z"], "price": pa.array([None, 1e9])}
    )
    assert VOCABULARY.categories == ("x", "x > y")
    assert VOCABULARY.brands == ("z", "é")
    assert VOCABULARY.numbers(PRODUCTS)[:, :2].tolist() == [[2, 2], [0, 0], [1, 2], [0, 1]]
    assert VOCABULARY.numbers(other)[:, 0].tolist() == [2, 0]
    assert VOCABULARY.numbers(other)[0, 1] == 0
    assert VOCABULARY.numbers(other)[:, 2].tolist() == [0, VOCABULARY.sizes[2] - 1]
    assert VOCABULARY.numbers(PRODUCTS)[2, 2] == 0
    prices = VOCABULARY.numbers(PRODUCTS)[:, 2]
    assert prices[1] < prices[0] < prices[3], "buckets ascend with the price"


def test_categories_are_numbered_as_in_the_vocabulary() -> None:
    numbers, names = numbered_categories(PRODUCTS)
    assert names == VOCABULARY.categories
    assert numbers.tolist() == VOCABULARY.numbers(PRODUCTS)[:, CATEGORY].tolist() == [2, 0, 1, 0]


def test_the_vocabulary_survives_a_file(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path / "vocabulary.json")
    assert ItemVocabulary.load(tmp_path / "vocabulary.json") == VOCABULARY
    bare = PRODUCTS.set_column(3, "price", pa.nulls(4, pa.float64()))
    assert ItemVocabulary.of(bare).numbers(bare)[:, 2].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("weighted", [False, True])
def test_attention_equals_the_formula(weighted: bool) -> None:
    torch.manual_seed(1)
    layer = NeighbourAttention(3).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    edges = [(1, 0), (2, 0), (3, 0), (0, 2), (3, 2)]
    weights = [0.5, 2.0, 1.5, 1.0, 3.0] if weighted else [1.0] * 5
    edge_index = torch.tensor(edges).T
    found = layer(x, edge_index, torch.tensor(weights, dtype=torch.float64) if weighted else None)
    transform, attention, output = (part.weight.tolist() for part in (layer.transform, layer.attention, layer.output))
    bias = layer.output.bias.tolist()

    def times(matrix: list[list[float]], vector: list[float]) -> list[float]:
        return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]

    for node in range(4):
        own, heard = x[node].tolist(), [0.0] * 3
        shares = []
        for (source, target), weight in zip(edges, weights, strict=True):
            if target == node:
                both = times(transform, own) + times(transform, x[source].tolist())
                logit = times(attention, both)[0]
                shares.append((source, weight * math.exp(logit if logit > 0 else 0.2 * logit)))
        for source, share in shares:
            for place, value in enumerate(times(transform, x[source].tolist())):
                heard[place] += share / sum(each for _, each in shares) * value
        expected = [value + b for value, b in zip(times(output, own + heard), bias, strict=True)]
        assert found[node].tolist() == pytest.approx(expected, rel=1e-9)


def test_a_new_item_has_a_vector_from_its_features_alone() -> None:
    model = encoder()
    new = pa.table({"category": [["x", "y"], ["x", "y"], ["x"]], "brand": ["é", "é", "z"], "price": [10.0, 10.0, 30.0]})
    vectors = model.new_vectors(new)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.allclose(vectors[0], vectors[2])


def test_more_items_than_rows_share_vectors_of_ids() -> None:
    shared = encoder(id_rows=2)
    x = shared.embed(torch.tensor([1, 2, 3, 0]), torch.zeros(4, 3, dtype=torch.int64), None)
    assert torch.equal(x[0], x[2])
    assert not torch.equal(x[0], x[1])
    assert not torch.equal(x[0], x[3]), "an item without an id has a vector of its own"


def test_an_encoder_survives_its_folder(tmp_path: Path) -> None:
    model = encoder()
    model.save(tmp_path)
    loaded = ItemEncoder.load(tmp_path).double()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor.float().double())
    (tmp_path / "vocabulary.json").unlink()
    with pytest.raises(RaylevanceError, match=r"vocabulary\.json is missing"):
        ItemEncoder.load(tmp_path)


def test_an_encoder_that_reads_nothing_is_refused() -> None:
    with pytest.raises(RaylevanceError, match="reads no feature"):
        encoder(ids=False, category=False, brand=False, price=False)
