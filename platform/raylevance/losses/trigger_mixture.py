"""The loss of the items that a mixture of several triggers ranks, as a table of items is served."""

import torch


def trigger_mixture_loss(
    logits: torch.Tensor, weights: torch.Tensor, targets: torch.Tensor, excluded: torch.Tensor
) -> torch.Tensor:
    """Return the cross-entropy of each history h under the mixture of its triggers, [histories]:

        m_hi = sum_t v_ht e^{z_ti},    L(h) = - sum_i y_hi log( m_hi / sum_{k not excluded} m_hk )

    Similar triggers bring the same items and share the gradient, so each trigger learns the targets that the others of
    a history do not bring.

    - `logits`: z, [triggers, candidates].
    - `weights`: v, the weight of each trigger in each history, 0 for one that it does not have, [histories, triggers].
    - `targets`: y, the share of each candidate among the targets, none of which is excluded, [histories, candidates].
    - `excluded`: bool, the candidates that are not in the denominator, [histories, candidates].

    A history without targets has loss 0. A sum below 1e-38 of the largest e^z is raised to that and has no gradient;
    with cosines this takes a tau below 0.03.

    Source: our choice; m is the sum in `inference.item_table`.
    """
    shares = (logits - logits.detach().amax()).exp()
    masses = (weights @ shares).clamp_min(torch.finfo(logits.dtype).tiny).log()
    total = masses.masked_fill(excluded, -torch.inf).logsumexp(dim=1, keepdim=True)
    return (targets * (total - masses).masked_fill(targets == 0, 0)).sum(dim=1)
