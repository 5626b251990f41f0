"""What clusters are like: agreement with masks, sizes, where tokens survive."""

from .agreement import (
    object_purity,
    object_under_segmentation_error,
    purity,
    under_segmentation_error,
)
from .collect import Analysis, Partition, analyse, regular_blocks
from .plots import plot_agreement, plot_sizes, plot_survival
from .report import agreement_table, as_json, size_table, survival_table
from .segments import Segments, cluster_overlap, patch_overlap
from .survival import REGIONS, cluster_sizes, region_shares, tokens_per_region

__all__ = [
    'REGIONS',
    'Analysis',
    'Partition',
    'Segments',
    'agreement_table',
    'analyse',
    'as_json',
    'cluster_overlap',
    'cluster_sizes',
    'object_purity',
    'object_under_segmentation_error',
    'patch_overlap',
    'plot_agreement',
    'plot_sizes',
    'plot_survival',
    'purity',
    'region_shares',
    'regular_blocks',
    'size_table',
    'survival_table',
    'tokens_per_region',
    'under_segmentation_error',
]
