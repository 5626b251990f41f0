"""MODEL_ZOO.md and the metafile are what the project is."""

from __future__ import annotations

import runpy
from pathlib import Path

import yaml

from mmdet_atc.studies.table3 import all_cells

from ..conftest import ROOT

METAFILE = yaml.safe_load((ROOT / 'configs/metafile.yml').read_text())


def test_model_zoo_is_up_to_date():
    tool = runpy.run_path(str(ROOT / 'tools/misc/make_model_zoo.py'))
    assert (ROOT / 'MODEL_ZOO.md').read_text() == tool['model_zoo'](METAFILE), (
        'run tools/misc/make_model_zoo.py'
    )


def test_a_missing_file_of_figures_is_told_in_one_line(tool):
    assert 'no.json' in tool('tools/misc/make_model_zoo.py', '--flops', 'no.json')


def test_every_config_is_in_the_metafile_with_its_weights():
    models = {model['Config']: model for model in METAFILE['Models']}
    for cell in all_cells():
        assert cell.config in models
        if cell.regime == 'fine-tuned':
            assert models[cell.config]['Weights'] == cell.checkpoint({}, 'hf://joakimbh')
    full_size = {str(path.relative_to(ROOT)) for path in ROOT.glob('configs/*_[tsbl]_*.py')}
    assert set(models) == full_size
    names = {collection['Name'] for collection in METAFILE['Collections']}
    assert {model['In Collection'] for model in models.values()} == names
    for path in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']:
        assert (ROOT / Path(path)).is_file()


def test_less_is_computed_the_fewer_tokens_are_kept():
    flops = {x['Name']: x['Metadata'].get('FLOPs') for x in METAFILE['Models']}
    for size in 'ts':
        dense = flops[f'vit_adapter_{size}_global_3x']
        # What single and complete have is copied from average.
        rates = [flops[f'atc_vit_adapter_{size}_average_r{rate}'] for rate in (25, 50, 70, 90)]
        assert rates == sorted(rates)
        assert rates[-1] < dense
