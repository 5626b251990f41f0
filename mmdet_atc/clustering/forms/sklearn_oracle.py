"""scikit-learn on the host, image by image: the authors' way, on our distances."""

from __future__ import annotations

import torch
from torch import Tensor

from ..distances import FRACTION_BITS, fixed_point, token_distances
from .labels import number_by_smallest_member


def cluster_features(features: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """As every form; average linkage's sums are rounded in float64.

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    distances = token_distances(fixed_point(features.cpu())).double() / 2**FRACTION_BITS
    return cluster_distances(distances, num_clusters, linkage).to(features.device)


def cluster_distances(distances: Tensor, num_clusters: int, linkage: str) -> Tensor:
    """Cluster a batch by given distances ``(B, N, N)``, any float dtype; labels ``(B, N)`` int64.

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import AgglomerativeClustering
    except ImportError as error:
        raise ImportError(
            "backend='sklearn' needs scikit-learn: pip install scikit-learn"
        ) from error
    matrices = distances.to('cpu', torch.promote_types(distances.dtype, torch.float32))
    labels = torch.arange(distances.shape[1]).repeat(len(distances), 1)
    if num_clusters < distances.shape[1]:
        model = AgglomerativeClustering(num_clusters, metric='precomputed', linkage=linkage)
        for image, matrix in enumerate(matrices.numpy()):
            labels[image] = torch.from_numpy(model.fit(matrix).labels_)
    return number_by_smallest_member(labels).to(distances.device)
