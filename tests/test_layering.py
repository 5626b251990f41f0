"""The rules on what imports what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from .conftest import ROOT

PACKAGE = ROOT / 'mmdet_atc'
#: Lower layers first: a layer imports only from those before it.
LAYERS = [
    'native',
    'clustering',
    'merging',
    'checkpoints',
    'layers',
    'backbones',
    'datasets',
    'engine',
    'integrations',
    'classification',
    'visualization',
    'deployment',
    'apis',
    'studies',
]
#: Modules beside the folders, which import nothing of the package.
BELOW = ['version', 'arguments', 'shipped']
#: A module beside the folders, which imports of clustering/ alone.
ABOVE_CLUSTERING = 'onnx_ops'
#: clustering/ may be used without OpenMMLab.
CLUSTERING_MAY_IMPORT = {'torch', 'numpy', 'sklearn', 'triton', 'mmdet_atc'}


def imported_modules(path):
    """Full names, also of what is imported from a module by its place or is a module itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = '.'.join([*package, *filter(None, [node.module])])
            yield from (f'{module}.{alias.name}' for alias in node.names)


@pytest.mark.parametrize('layer', LAYERS)
def test_imports_point_downwards(layer):
    allowed = BELOW + LAYERS[: LAYERS.index(layer) + 1]
    if layer not in LAYERS[: LAYERS.index('clustering') + 1]:
        allowed = [*allowed, ABOVE_CLUSTERING]
    for path in (PACKAGE / layer).rglob('*.py'):
        for module in imported_modules(path):
            parts = module.split('.')
            if parts[0] == 'mmdet_atc':
                assert parts[1] in allowed, f'{path.name} of {layer} imports {module}'


def test_what_is_imported_before_mmdet_imports_nothing_of_openmmlab():
    for module in imported_modules(PACKAGE / 'mmcv_ext.py'):
        root = module.split('.')[0]
        at_first_use = {'mmcv', 'torchvision'}
        assert root in sys.stdlib_module_names | {'numpy', 'torch'} | at_first_use, module


@pytest.mark.parametrize('module', BELOW)
def test_modules_below_all_layers_import_none(module):
    roots = {name.split('.')[0] for name in imported_modules(PACKAGE / f'{module}.py')}
    assert roots <= sys.stdlib_module_names


def test_the_documentation_lists_the_layers_in_order():
    text = (ROOT / 'docs/extending.md').read_text()
    assert re.findall(r'^\| `(\w+)` \|', text, re.MULTILINE) == LAYERS


def test_every_folder_is_a_layer():
    folders = {path.name for path in PACKAGE.iterdir() if (path / '__init__.py').exists()}
    assert folders == set(LAYERS)


def test_clustering_imports_nothing_of_openmmlab():
    for path in (PACKAGE / 'clustering').rglob('*.py'):
        for module in imported_modules(path):
            root = module.split('.')[0]
            assert root in CLUSTERING_MAY_IMPORT | sys.stdlib_module_names, f'{path}: {module}'


WITHOUT_OPENMMLAB = """
import sys
from importlib.machinery import PathFinder

class WithoutOpenMMLab(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split('.')[0] in {'mmcv', 'mmdet', 'mmengine'}:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutOpenMMLab
import torch
"""


TIMM = """
import timm
from mmdet_atc.integrations.timm import apply_merging
from mmdet_atc.merging import keep_rate_plan
model = timm.create_model('vit_tiny_patch16_224', img_size=64, depth=3)
plan = keep_rate_plan(0.5, blocks=(0,))
for type_ in ('AgglomerativeMerging', 'BipartiteMerging', 'TopKMerging'):
    apply_merging(model, dict(type=type_), plan)(torch.rand(1, 3, 64, 64))
    assert model.token_clusters[0].num_clusters == 8
try:
    apply_merging(model, dict(type='Nothing'), plan)
except ValueError as error:
    assert 'Nothing is not in the token merger registry' in str(error)
else:
    raise AssertionError
"""


def run_without_openmmlab(code):
    subprocess.run([sys.executable, '-c', WITHOUT_OPENMMLAB + code], check=True, cwd=ROOT)


def test_clustering_works_without_openmmlab():
    run_without_openmmlab(
        'from mmdet_atc.clustering import agglomerative_clustering\n'
        'labels = agglomerative_clustering(torch.eye(4)[None], 2)\n'
        'assert labels.shape == (1, 4) and set(labels.flatten().tolist()) == {0, 1}\n'
        "assert 'timm' not in sys.modules\n"
    )


def test_models_of_timm_merge_without_openmmlab():
    run_without_openmmlab(TIMM)


def test_all_operators_are_registered_without_openmmlab():
    sources = '\n'.join(path.read_text() for path in PACKAGE.rglob('*.py'))
    names = set(re.findall(r"operator\(\s*'mmdet_atc::(\w+)'", sources))
    assert 'deformable_attention' in names
    run_without_openmmlab(
        'import mmdet_atc.ops\n'
        f'for name in {sorted(names)}:\n'
        '    assert hasattr(torch.ops.mmdet_atc, name), name\n'
    )


def test_classifiers_merge_by_options_without_mmdetection():
    run_without_openmmlab(
        """
from argparse import ArgumentParser
from mmdet_atc.classification.methods import add_model_options, build_model
parser = ArgumentParser()
add_model_options(parser)
build_model(parser.parse_args(['/data', '--model', 'vit_tiny_patch16_224']))
"""
    )
