"""The keys and centroids of a step, and the losses of anchors against them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from raylevance.losses.moco import cluster_loss, instance_loss
from raylevance.training.tasks.moco.contrast_plan import CLUSTER, HARD_NEGATIVE, POSITIVE, ContrastBatch
from raylevance.training.tasks.moco.contrast_rows import NO_CLUSTER, TokenisedContrastRows
from raylevance.training.tasks.moco.key_queue import KeyQueue, labels_in_sets
from raylevance.training.token_file import Ints

NODE, TEXT = 0, 1
"""Columns of the labels of a queued key: the id of its node, and the hash of its text."""


@dataclass(frozen=True)
class Targets:
    """Keys and centroids for the B pairs of a step on all workers: unit vectors without gradients.

    - `positives` [B, d]: the positive of each pair; `positive_labels` [B, 2] int64: its labels in the queue.
    - `hard_negatives` [H, d], and `hard_negative_pair` [H] int64: the pair that each belongs to.
    - `queued_keys` [K, d]: the queue; `excluded_keys` [B, K] bool: keys that are not negatives of a pair's anchor.
    - `centroids` [C, d]: centroids of the pairs that have a cluster; `cluster_labels` [C, 1] int64: their labels in the
      queue of centroids; `centroid_of` [B] int64: the row of a pair's centroid among them, or `NO_CLUSTER`.
    - `all_centroids` [C + Q, d]: those, then the queued ones; `excluded_centroids` [B, C + Q] bool: centroids that are
      not negatives of a pair's anchor.
    """

    positives: torch.Tensor
    positive_labels: torch.Tensor
    hard_negatives: torch.Tensor
    hard_negative_pair: Ints
    queued_keys: torch.Tensor
    excluded_keys: torch.Tensor
    centroids: torch.Tensor
    cluster_labels: torch.Tensor
    centroid_of: Ints
    all_centroids: torch.Tensor
    excluded_centroids: torch.Tensor

    def losses(
        self, anchors: torch.Tensor, pairs: Ints, weight: torch.Tensor | None, temperature: float
    ) -> torch.Tensor:
        """Return the instance loss and the cluster loss [2], each summed over `anchors` [n, d].

        Each anchor is contrasted with the targets of its pair in `pairs` [n], and its losses are multiplied by its
        `weight` [n], or by 1 for None. The cluster loss leaves out anchors of pairs without a cluster.
        """
        device = anchors.device
        anchor_rows, negative_rows = np.nonzero(pairs[:, None] == self.hard_negative_pair)
        pair_rows = torch.from_numpy(pairs).to(device)
        instance = instance_loss(
            anchors,
            self.positives[pair_rows],
            self.queued_keys,
            self.excluded_keys[pair_rows],
            self.hard_negatives[_to(negative_rows, device)],
            _to(anchor_rows, device),
            temperature=temperature,
            weight=weight,
        )
        clustered = _to(np.flatnonzero(self.centroid_of[pairs] != NO_CLUSTER), device)
        if not len(clustered):
            return torch.stack([instance, instance.new_zeros(())])
        cluster = cluster_loss(
            anchors[clustered],
            _to(self.centroid_of, device)[pair_rows[clustered]],
            self.all_centroids,
            self.excluded_centroids[pair_rows[clustered]],
            temperature=temperature,
            weight=None if weight is None else weight[clustered],
        )
        return torch.stack([instance, cluster])


def build_targets(
    rows: TokenisedContrastRows,
    batch: ContrastBatch,
    keys: torch.Tensor,
    key_queue: KeyQueue,
    centroid_queue: KeyQueue,
) -> Targets:
    """Build the targets of `batch` from the vectors `keys` [T, d] of its key texts and the queues before this step.

    False negatives are excluded:

    - a queued key if its node is among the row's excluded nodes, or its text is that of the anchor or the positive,
    - a centroid if its cluster is that of the pair, or of an excluded node.
    """
    device = keys.device
    positive, hard_negative, member = (
        np.flatnonzero(batch.key_kind == kind) for kind in (POSITIVE, HARD_NEGATIVE, CLUSTER)
    )
    excluded_nodes = [rows.excluded_nodes(row) for row in batch.rows]
    texts = np.stack([rows.anchor_hash[batch.rows], rows.positive_hash[batch.rows]], axis=1)
    clustered = np.unique(batch.key_pair[member])
    cluster_id = rows.cluster_id[batch.rows]
    excluded_clusters = [np.append(nodes, own) for nodes, own in zip(excluded_nodes, cluster_id, strict=True)]
    cluster_labels = torch.from_numpy(cluster_id[clustered]).to(device)
    centroids = _centroids(rows, batch, keys[_to(member, device)])
    centroid_of = np.full(len(batch.rows), NO_CLUSTER)
    centroid_of[clustered] = np.arange(len(clustered))
    same_node = _labels_in_sets(key_queue.labels[:, NODE], excluded_nodes)
    same_text = _labels_in_sets(key_queue.labels[:, TEXT], list(texts))
    same_cluster = _labels_in_sets(torch.cat([cluster_labels, centroid_queue.labels[:, 0]]), excluded_clusters)
    unfilled = functional.pad(centroid_queue.unfilled(), (len(clustered), 0), value=False)
    return Targets(
        positives=keys[_to(positive, device)],
        positive_labels=torch.from_numpy(np.stack([rows.positive_id[batch.rows], texts[:, 1]], axis=1)).to(device),
        hard_negatives=keys[_to(hard_negative, device)],
        hard_negative_pair=batch.key_pair[hard_negative],
        queued_keys=key_queue.vectors,
        excluded_keys=same_node | same_text | key_queue.unfilled(),
        centroids=centroids,
        cluster_labels=cluster_labels[:, None],
        centroid_of=centroid_of,
        all_centroids=torch.cat([centroids, centroid_queue.vectors]),
        excluded_centroids=same_cluster | unfilled,
    )


def _centroids(rows: TokenisedContrastRows, batch: ContrastBatch, members: torch.Tensor) -> torch.Tensor:
    """Return the centroids [C, d], normalise(sum_q w_q z_q) over the `members` [M, d] of each cluster, by their pairs.

    They are computed by a matrix product, which is the same to the bit on every worker, unlike a scattered sum on a
    GPU.
    """
    clustered, centroid_of_member = np.unique(batch.key_pair[batch.key_kind == CLUSTER], return_inverse=True)
    weight = np.zeros((len(clustered), len(centroid_of_member)), np.float32)
    weights = [rows.cluster_weights(batch.rows[pair]) for pair in clustered]
    weight[centroid_of_member, np.arange(len(centroid_of_member))] = np.concatenate([np.empty(0, np.float32), *weights])
    return functional.normalize(torch.from_numpy(weight).to(members.device) @ members, dim=-1)


def _labels_in_sets(labels: torch.Tensor, sets: list[Ints]) -> torch.Tensor:
    """Return a matrix [len(sets), n] that says whether label j of `labels` [n] is in the i-th of `sets`."""
    set_of = np.repeat(np.arange(len(sets)), [len(members) for members in sets])
    members = np.concatenate([np.empty(0, np.int64), *sets])
    return labels_in_sets(labels, _to(members, labels.device), _to(set_of, labels.device), len(sets))


def _to(numbers: Ints, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(numbers).to(device)
