"""What the anchors of a step are drawn to and pushed from, and their losses against it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from raylevance.losses.moco import cluster_loss, instance_loss
from raylevance.training.tasks.moco.batches import CLUSTER, HARD, POSITIVE, MoCoBatch
from raylevance.training.tasks.moco.key_queue import KeyQueue, matches
from raylevance.training.tasks.moco.rows import NO_CLUSTER, MoCoRows
from raylevance.training.token_file import Ints

NODE, TEXT = 0, 1
"""What the labels of a queued key are: the id of its node and the hash of its text."""


@dataclass(frozen=True)
class Targets:
    """Unit vectors, without gradient, for the B pairs of a step on all workers.

    `positives` [B, d] with `positive_labels` [B, 2]; `hard` [H, d] with `hard_place` [H], the place of their pair.
    `queue` [K, d], and `known` [B, K]: the keys that are none of a pair's negatives. `centroids` [C, d], one for each
    pair with a cluster, with `cluster_labels` [C, 1]; `centroid` [B]: a pair's row among them, -1 for none. `contrast`
    [C + K, d]: they, then the queued ones, and `known_clusters` [B, C + K] as `known`.
    """

    positives: torch.Tensor
    positive_labels: torch.Tensor
    hard: torch.Tensor
    hard_place: Ints
    queue: torch.Tensor
    known: torch.Tensor
    centroids: torch.Tensor
    cluster_labels: torch.Tensor
    centroid: Ints
    contrast: torch.Tensor
    known_clusters: torch.Tensor

    def losses(
        self, anchors: torch.Tensor, places: Ints, weight: torch.Tensor | None, temperature: float
    ) -> torch.Tensor:
        """[2]: the instance loss and the cluster loss, sums over `anchors` [n, d], each against the targets of the pair
        at its place in `places` [n] and times its `weight` [n] (None: 1). The second runs over those with a cluster."""
        device = anchors.device
        owner, hard = (torch.from_numpy(found) for found in np.nonzero(places[:, None] == self.hard_place))
        at = torch.from_numpy(places).to(device)
        instance = instance_loss(
            anchors,
            self.positives[at],
            self.queue,
            self.known[at],
            self.hard[hard.to(device)],
            owner.to(device),
            temperature=temperature,
            weight=weight,
        )
        clustered = torch.from_numpy(np.flatnonzero(self.centroid[places] != NO_CLUSTER)).to(device)
        centroid = torch.from_numpy(self.centroid).to(device)
        if not len(clustered):
            return torch.stack([instance, instance.new_zeros(())])
        cluster = cluster_loss(
            anchors[clustered],
            centroid[at[clustered]],
            self.contrast,
            self.known_clusters[at[clustered]],
            temperature=temperature,
            weight=None if weight is None else weight[clustered],
        )
        return torch.stack([instance, cluster])


def build_targets(
    rows: MoCoRows, batch: MoCoBatch, keys: torch.Tensor, queue: KeyQueue, centroid_queue: KeyQueue
) -> Targets:
    """The targets of `batch`, given the vectors `keys` [T, d] of its key texts and the queues before this step.

    A queued key is no negative of an anchor where its node is related to it, or its text is the anchor's or the
    positive's; a centroid where its cluster is the anchor's own or of a related node.
    """
    device = keys.device
    positive, hard, cluster = (np.flatnonzero(batch.kind == kind) for kind in (POSITIVE, HARD, CLUSTER))
    related = [rows.related(row) for row in batch.rows]
    texts = np.stack([rows.anchor_hash[batch.rows], rows.positive_hash[batch.rows]], axis=1)
    clustered = np.unique(batch.place[cluster])
    own_cluster = rows.cluster_id[batch.rows]
    near = [np.append(nodes, node) for nodes, node in zip(related, own_cluster, strict=True)]
    cluster_labels = torch.from_numpy(own_cluster[clustered]).to(device)
    all_clusters = torch.cat([cluster_labels, centroid_queue.labels[:, 0]])
    centroids = _centroids(rows, batch, keys[_index(cluster, device)])
    centroid = np.full(len(batch.rows), NO_CLUSTER)
    centroid[clustered] = np.arange(len(clustered))
    same = _matches(queue.labels[:, NODE], related) | _matches(queue.labels[:, TEXT], list(texts))
    unfilled = functional.pad(centroid_queue.unfilled(), (len(clustered), 0), value=False)
    return Targets(
        positives=keys[_index(positive, device)],
        positive_labels=torch.from_numpy(np.stack([rows.positive_id[batch.rows], texts[:, 1]], axis=1)).to(device),
        hard=keys[_index(hard, device)],
        hard_place=batch.place[hard],
        queue=queue.vectors,
        known=same | queue.unfilled(),
        centroids=centroids,
        cluster_labels=cluster_labels[:, None],
        centroid=centroid,
        contrast=torch.cat([centroids, centroid_queue.vectors]),
        known_clusters=_matches(all_clusters, near) | unfilled,
    )


def _centroids(rows: MoCoRows, batch: MoCoBatch, members: torch.Tensor) -> torch.Tensor:
    """[C, d]: normalise(sum_q w_q z_q) over the `members` [M, d] of each cluster, in the order of their pairs.

    A product with a matrix, which every worker computes to the same bit, unlike a sum by scatter on a GPU.
    """
    clustered, owner = np.unique(batch.place[batch.kind == CLUSTER], return_inverse=True)
    weight = np.zeros((len(clustered), len(owner)), np.float32)
    weights = [rows.cluster_weights(batch.rows[place]) for place in clustered]
    weight[owner, np.arange(len(owner))] = np.concatenate([np.empty(0, np.float32), *weights])
    return functional.normalize(torch.from_numpy(weight).to(members.device) @ members, dim=-1)


def _matches(labels: torch.Tensor, wanted: list[npt.NDArray[np.int64]]) -> torch.Tensor:
    """[len(wanted), n] bool: whether label j of `labels` [n] is among the i-th of `wanted`."""
    owner = np.repeat(np.arange(len(wanted)), [len(each) for each in wanted])
    flat = np.concatenate([np.empty(0, np.int64), *wanted])
    return matches(labels, _index(flat, labels.device), _index(owner, labels.device), len(wanted))


def _index(numbers: Ints, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(numbers).to(device)
