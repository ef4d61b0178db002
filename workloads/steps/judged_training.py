"""Train an encoder on judged queries: the step of stage 1 and stage 2 of Mine and Refine (arXiv 2602.17654)."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from raylevance.artifacts import Artifact, Draft, fingerprint
from raylevance.config import Settings
from raylevance.data.graded_instances import InstanceSettings
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.spelling import SpellingSettings
from raylevance.inference.grade_bands import save_bands
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.training.tasks.contrastive.task import ContrastiveSettings
from workloads.steps.contrastive_instances import write_judged_instances
from workloads.steps.encoder_training import besides_training, training_settings
from workloads.steps.mining import add_mined_pairs, read_mined
from workloads.steps.retrieval_data import RetrievalData

JUDGED_QUERIES = "queries"
"""The setting of an encoder that learned from judged queries, which no other encoder has: the digest of their ids."""


class JudgedTraining(Settings):
    """The settings that decide the training of an encoder on judged queries."""

    train: ContrastiveSettings
    encoder: EncoderSettings
    instances: InstanceSettings
    spelling: SpellingSettings
    validation_fraction: float
    synthetic_share: float | None
    with_originals: bool = True
    """Learn from all judgements as well as from mined pairs; false learns only from mined pairs."""
    two_towers: bool = False
    """Give queries and items separate towers before the training starts."""


def judged_training_step(
    data: RetrievalData, name: str, encoder: Artifact, settings: JudgedTraining, mined: Sequence[Artifact] = ()
) -> Artifact:
    """Return the artifact `name`: `encoder`, trained on the judgements of the training queries and the `mined` pairs.

    The best step on the validation queries is kept, and the bands of the grades are fitted on them.
    """
    run, seed = data.run, data.trainer.seed
    inputs = [data.tables, encoder, *mined, *data.synthetic]
    train_queries = fingerprint(data.train.queries["query_id"].to_pylist())

    def build(draft: Draft) -> None:
        with run.work_folder() as work:
            write_judged_instances(
                with_mined(data, mined, with_originals=settings.with_originals),
                work / "instances",
                data.text,
                settings.instances,
                settings.spelling,
                seed,
            )
            start = run.store.path(encoder.ref)
            if settings.two_towers:
                start = _with_two_towers(start, work / "two-towers")
            data.trainer.train_encoder(start, settings.train, data.text, draft, work, data.evaluation())
            save_bands(draft.path, GradedPairs.from_tables(data.validation, data.text))

    others = besides_training(settings) | data.evaluation_settings()
    described = training_settings(settings.train, data.text, **others, **{JUDGED_QUERIES: train_queries})
    return run.step(name, build, settings=described, inputs=inputs, seed=seed)


def with_mined(data: RetrievalData, mined: Sequence[Artifact], *, with_originals: bool = True) -> JudgedTables:
    """Return the training queries with the pairs that all rounds of mining found."""
    if not mined:
        return data.train
    pairs = pa.concat_tables(read_mined(data.run, artifact) for artifact in mined)
    return add_mined_pairs(data.train, pairs, with_originals=with_originals)


def _with_two_towers(encoder: Path, folder: Path) -> Path:
    Encoder.load(encoder).with_two_towers().save(folder)
    return folder
