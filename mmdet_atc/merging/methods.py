"""The ways to merge that the project compares: names, titles, mergers and papers, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Method:
    """A way to merge tokens.

    Args:
        title (str): What tables and pictures call it.
        merging (dict): Config of the merger, without a keep rate.
        family (str): What its paper calls it.
        paper (str): Title of the paper.
        url (str): Where the paper is.
    """

    title: str
    merging: dict[str, Any]
    family: str
    paper: str
    url: str


def _atc(linkage: str) -> Method:
    return Method(
        f'ATC {linkage}',
        dict(type='AgglomerativeMerging', linkage=linkage),
        'ATC',
        'Agglomerative Token Clustering',
        'https://arxiv.org/abs/2409.11923',
    )


#: By the name on the command line, which is also that in the names of configs.
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        'single': _atc('single'),
        'complete': _atc('complete'),
        'average': _atc('average'),
        'tome': Method(
            'ToMe',
            dict(type='BipartiteMerging'),
            'ToMe',
            'Token Merging: Your ViT But Faster',
            'https://arxiv.org/abs/2210.09461',
        ),
        'dpcknn': Method(
            'DPC-KNN',
            dict(type='DPCKNNMerging'),
            'DPC-KNN',
            'Not All Tokens Are Equal: Human-centric Visual Analysis via Token Clustering '
            'Transformer',
            'https://arxiv.org/abs/2204.08680',
        ),
        'kmedoids': Method(
            'K-Medoids',
            dict(type='KMedoidsMerging'),
            'K-Medoids',
            'Token Pooling in Vision Transformers for Image Classification',
            'https://arxiv.org/abs/2110.03860',
        ),
        'topk': Method(
            'Top-K',
            dict(type='TopKMerging'),
            'Top-K',
            'Which Tokens to Use? Investigating Token Reduction in Vision Transformers',
            'https://arxiv.org/abs/2308.04657',
        ),
    }
)
