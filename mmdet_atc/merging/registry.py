"""The registry in which ``merging=dict(type=...)`` of a backbone is looked up."""

from mmengine.registry import Registry

TOKEN_MERGERS = Registry('token merger', scope='mmdet', locations=['mmdet_atc.merging'])
