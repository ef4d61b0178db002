"""A graph convolution over labels: a label takes in those that occur with it, mean the same or share its parent."""

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional

NEGATIVE_SLOPE = 0.2
"""The slope of LeakyReLU below 0 (our reading, after ML-GCN)."""


class LabelGCN(nn.Module):
    """The layers H^{l+1} = LeakyReLU(A^ H^l W^l) from H^0 = C, and the residual C + H^L.

    The weights of the last layer start at 0 (our choice), so that an untrained network returns the label vectors.

    Source: SSUF (arXiv 2506.21049), structure-enhanced module; the form of a layer, their number and the residual are
    our reading.
    """

    def __init__(self, graph: sp.csr_matrix, dimension: int, layers: int) -> None:
        """Build `layers` layers on the normalised `graph` A^ [labels, labels], whose row is the label that receives."""
        super().__init__()
        convolutions = [_gcn_conv(dimension) for _ in range(layers)]
        nn.init.zeros_(convolutions[-1].lin.weight)
        self.layers = nn.ModuleList(convolutions)
        graph = graph.tocsr().astype(np.float32)
        graph.sort_indices()
        parts = {"pointers": graph.indptr.astype(np.int64), "columns": graph.indices.astype(np.int64)}
        for name, values in {**parts, "values": graph.data}.items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        self.pointers: torch.Tensor
        self.columns: torch.Tensor
        self.values: torch.Tensor

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the vectors [labels, d] of labels among their neighbours, from their own, float32 [labels, d]."""
        size = len(self.pointers) - 1
        # PyTorch says that its CSR support is not final.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            # GCNConv multiplies by the transpose of what it is given as `edge_index`, which a CSR tensor is already.
            graph = torch.sparse_csr_tensor(self.pointers, self.columns, self.values, (size, size))
            hidden = labels
            for layer in self.layers:
                hidden = functional.leaky_relu(layer(hidden, graph), NEGATIVE_SLOPE)
        return labels + hidden


def _gcn_conv(dimension: int) -> Any:
    """Return PyG's layer without its own normalisation: that of a CSR graph differs where a label has a self loop."""
    with warnings.catch_warnings():
        # Importing the package compiles classes of its own with torch.jit, which is deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch_geometric.nn import GCNConv

    return GCNConv(dimension, dimension, bias=False, normalize=False)
