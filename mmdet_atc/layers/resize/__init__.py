"""The sums that output maps are, resizing and norm included."""

from .api import BatchNormParts, resized_sum

__all__ = ['BatchNormParts', 'resized_sum']
