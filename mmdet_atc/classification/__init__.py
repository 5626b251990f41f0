"""Image classification with merging timm models: data sets, metrics, evaluation, training."""
