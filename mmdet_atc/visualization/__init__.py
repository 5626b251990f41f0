"""Pictures of what token merging does."""

from .clusters import draw_clusters, draw_padded_image
from .files import find_images, picture_names
from .grid import draw_cluster_grid
from .hook import ClusterVisualizationHook
from .latent import draw_latent_clusters
from .methods import mergings_to_compare
from .predict import ImageClusters, image_pipeline, load_batch, predict_clusters

__all__ = [
    'ClusterVisualizationHook',
    'ImageClusters',
    'draw_cluster_grid',
    'draw_clusters',
    'draw_latent_clusters',
    'draw_padded_image',
    'find_images',
    'image_pipeline',
    'load_batch',
    'mergings_to_compare',
    'picture_names',
    'predict_clusters',
]
