"""Forms of one operation: ``cluster_features(features, num_clusters, linkage) -> labels``."""
