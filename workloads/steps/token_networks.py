"""Two networks of multi-label text classification, from their papers: baselines of query classification."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Texts = Sequence[Sequence[int]]
"""The tokens of n texts."""


def padded(texts: Texts, length: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tokens of texts, int64 [n, l], and which are not padding, bool [n, l].

    l is the `length` that texts are cut or padded to; None for that of the longest.
    """
    length = max(map(len, texts)) if length is None else length
    tokens = torch.tensor([[*text[:length], *[0] * (length - len(text))] for text in texts])
    return tokens, torch.arange(length) < torch.tensor([[len(text)] for text in texts])


class XmlCnn(nn.Module):
    """Convolutions over the token vectors, the maxima of parts of their outputs, a bottleneck, and a linear layer.

    Source: XML-CNN (Liu et al. 2017, DOI 10.1145/3077136.3080834). The sizes are those of LibMultiLabel's settings for
    it. Queries are cut or padded to 16 tokens, and token vectors start from the backbone's (our choice).
    """

    RATE: ClassVar[float] = 5e-4
    WIDTHS, FILTERS, PARTS, HIDDEN, LENGTH = (2, 4, 8), 256, 2, 512, 16

    def __init__(self, vectors: torch.Tensor, labels: Texts) -> None:
        """Make a network on the token `vectors` [tokens, d] for as many labels as there are texts in `labels`."""
        super().__init__()
        self.tokens = nn.Embedding.from_pretrained(vectors.clone(), freeze=False)
        self.filters = nn.ModuleList(
            nn.Conv1d(vectors.shape[1], self.FILTERS, width, padding=width // 2) for width in self.WIDTHS
        )
        self.bottleneck = nn.Linear(len(self.WIDTHS) * self.FILTERS * self.PARTS, self.HIDDEN)
        self.out = nn.Linear(self.HIDDEN, len(labels))
        self.dropout = nn.Dropout(0.5)

    def forward(self, queries: Texts) -> torch.Tensor:
        """Return logits [n, labels]."""
        tokens, real = padded(queries, self.LENGTH)
        vectors = (self.tokens(tokens) * real.unsqueeze(2)).transpose(1, 2)
        pooled = [functional.adaptive_max_pool1d(functional.relu(each(vectors)), self.PARTS) for each in self.filters]
        hidden = functional.relu(self.bottleneck(torch.cat(pooled, dim=1).flatten(1)))
        logits: torch.Tensor = self.out(self.dropout(hidden))
        return logits


class Lsan(nn.Module):
    """A vector of the query for each label, by self-attention and by attention from the label's text, fused.

    Source: LSAN (Xiao et al. 2019, EMNLP). Label vectors start from the mean of the token vectors of the label's text
    and are trained; the size of the LSTM is our choice.
    """

    RATE: ClassVar[float] = 1e-3
    HIDDEN, ATTENTION, SHARED = 128, 128, 128

    def __init__(self, vectors: torch.Tensor, labels: Texts) -> None:
        """Make a network on the token `vectors` [tokens, d] for labels with the texts `labels`."""
        super().__init__()
        d, count = vectors.shape[1], len(labels)
        self.tokens = nn.Embedding.from_pretrained(vectors.clone(), freeze=False)
        self.lstm = nn.LSTM(d, self.HIDDEN, batch_first=True, bidirectional=True)
        texts, real = padded(labels)
        means = (vectors[texts] * real.unsqueeze(2)).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        self.labels = nn.Parameter(means)
        self.read = nn.Linear(d, self.HIDDEN, bias=False)
        self.first = nn.Linear(2 * self.HIDDEN, self.ATTENTION, bias=False)
        self.second = nn.Linear(self.ATTENTION, count, bias=False)
        self.weigh_self, self.weigh_label = nn.Linear(2 * self.HIDDEN, 1), nn.Linear(2 * self.HIDDEN, 1)
        self.shared, self.out = nn.Linear(2 * self.HIDDEN, self.SHARED), nn.Linear(self.SHARED, 1)

    def forward(self, queries: Texts) -> torch.Tensor:
        """Return logits [n, labels]."""
        tokens, real = padded(queries)
        lengths = real.sum(dim=1)
        packed = pack_padded_sequence(self.tokens(tokens), lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        scores = self.second(torch.tanh(self.first(hidden))).masked_fill(~real.unsqueeze(2), -torch.inf)
        by_self = scores.softmax(dim=1).transpose(1, 2) @ hidden
        labels = self.read(self.labels)
        halves = hidden.split(self.HIDDEN, dim=2)
        by_label = torch.cat([labels @ half.transpose(1, 2) @ half for half in halves], dim=2)
        weights = torch.cat([self.weigh_self(by_self), self.weigh_label(by_label)], dim=2).sigmoid()
        weights = weights / weights.sum(dim=2, keepdim=True)
        fused = weights[..., :1] * by_self + weights[..., 1:] * by_label
        logits: torch.Tensor = self.out(functional.relu(self.shared(fused))).squeeze(2)
        return logits
