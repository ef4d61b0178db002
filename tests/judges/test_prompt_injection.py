"""Instructions to the judge are found; titles are let through."""

from pathlib import Path

import pyarrow.parquet as pq
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.judges.prompt_injection import find_prompt_injection

TEXTS = yaml.safe_load((Path(__file__).parent / "injections.yaml").read_text(encoding="utf-8"))


def test_most_instructions_are_found_and_no_harmless_text() -> None:
    """Precision comes first: a harmless product that is quarantined is lost, and a missed order is still only data."""
    found, taken = ([text for text in TEXTS[kind] if find_prompt_injection(text)] for kind in ("hostile", "harmless"))
    assert len(found) / len(TEXTS["hostile"]) >= 0.95, set(TEXTS["hostile"]) - set(found)
    assert taken == []


@settings(deadline=None)
@given(
    st.sampled_from(TEXTS["hostile"]), st.sampled_from(TEXTS["harmless"]), st.sampled_from(["upper", "title", "lower"])
)
def test_an_instruction_after_a_title_is_found_in_any_case(hostile: str, title: str, case: str) -> None:
    assert find_prompt_injection(f"{title}.\n{getattr(hostile, case)()}")


def test_real_texts_are_let_through(public_data: Path) -> None:
    products = pq.read_table(public_data / "esci" / "shopping_queries_dataset_products.parquet")
    for column in ("product_title", "product_bullet_point", "product_description"):
        texts = products[column].drop_null().to_pylist()
        assert [find_prompt_injection(text) for text in texts if find_prompt_injection(text)] == [], column
