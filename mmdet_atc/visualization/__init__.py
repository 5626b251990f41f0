"""Pictures of what token merging does."""

from .clusters import draw_cluster_stages, draw_clusters
from .predict import ImageClusters, predict_clusters

__all__ = ['ImageClusters', 'draw_cluster_stages', 'draw_clusters', 'predict_clusters']
