"""What a bundle may name, and going back to an earlier one."""

import pytest

from raylevance.artifacts import Store
from raylevance.errors import RaylevanceError, UsageError
from raylevance.inference import bundle as bundles
from raylevance.inference.bundle import BundleVersions
from serve.settings import ServeSettings
from tests.serve.conftest import publish_bundle


def test_there_must_be_a_bundle_to_go_back_to(store: Store) -> None:
    with pytest.raises(RaylevanceError, match="is the only version of bundle/shop"):
        bundles.rollback(store, "shop")
    with pytest.raises(UsageError, match=f"bundle/shop: has no version 00; it has {store.get('bundle/shop').version}"):
        bundles.rollback(store, "shop", "00")
    with pytest.raises(UsageError, match="expected bundle/NAME"):
        bundles.read(store, "index/shop")


@pytest.mark.parametrize(
    ("part", "reference"), [("classifier", "scorer/a"), ("scorer", "classifier/a"), ("items", "index/shop")]
)
def test_a_part_of_another_kind_is_refused(store: Store, part: str, reference: str) -> None:
    with pytest.raises(UsageError, match=f"{part} '{reference}': expected"):
        bundles.pin(store, "index/shop", **{part: reference})


def test_a_bundle_with_another_encoder_is_not_published(store: Store) -> None:
    versions = bundles.pin(store, "index/shop")
    other = BundleVersions(**{**versions.model_dump(), "encoder": "encoder/shop@000000000000"})
    with pytest.raises(RaylevanceError, match=f"{versions.index} was made with {versions.encoder}, not with"):
        bundles.publish(store, "shop", other)


def test_rollback_goes_back_further_when_told_and_past_what_is_damaged(store: Store) -> None:
    first = store.get("bundle/shop")
    second, third = publish_bundle(store, 60), publish_bundle(store, 70)
    assert bundles.rollback(store, "shop", first.version)[1].ref == first.ref
    bundles.publish(store, "shop", bundles.read(store, third.ref))
    damaged = bundles.read(store, second.ref).index
    next((store.path(damaged) / "lexical").iterdir()).unlink()
    assert bundles.rollback(store, "shop")[1].ref == first.ref


def test_a_bundle_and_artifacts_of_ones_own_choice_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="classifier: the bundle says what is served"):
        ServeSettings(bundle="bundle/shop", classifier="classifier/query")
