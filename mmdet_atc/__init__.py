"""Agglomerative Token Clustering (Haurum et al., ECCV 2024) for MMDetection 3.x.

Importing the package registers its backbones, token mergers, data sets and hooks in mmdet's scope::

    custom_imports = dict(imports=['mmdet_atc'], allow_failed_imports=False)

It also supplies mmcv's compiled operators where mmcv is installed without them
(:mod:`mmdet_atc.mmcv_ext`): import it before ``mmdet.apis`` or ``mmcv.ops``.

Without OpenMMLab :mod:`mmdet_atc.clustering` (torch and numpy alone), :mod:`mmdet_atc.merging`,
:mod:`mmdet_atc.integrations` and :mod:`mmdet_atc.ops` work.
"""

import importlib.util
import warnings

from .account import stand_in_for_account
from .begin import begin
from .version import __version__

stand_in_for_account()
begin()
# MMEngine's imports give it in every tool, and who reads it can do nothing about it.
warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
# Only an absent OpenMMLab is fine; a broken one raises.
if all(importlib.util.find_spec(name) for name in ('mmengine', 'mmcv', 'mmdet')):
    from .torch_version import require_torch

    require_torch()  # first: the imports below fail with an old one, and less clearly
    from . import mmcv_ext

    mmcv_ext.install()  # before mmdet: its heads import mmcv's operators
    from . import (  # noqa: F401
        backbones,
        checkpoints,
        datasets,
        engine,
        merging,
        visualization,
    )

    checkpoints.install()

__all__ = ['__version__']
