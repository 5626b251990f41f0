#!/usr/bin/env python
"""Write ``configs/metafile.yml`` and ``MODEL_ZOO.md`` from what ``get_flops.py --out`` measured.

    models() { ls -U configs/vit_adapter_$1_* configs/atc_*_$1_*average_* \
        configs/{tome,dpcknn,kmedoids,topk}_*_$1_r*; }
    heads=$(ls configs/{atss,gfl,cascade,dino,mask2former}_*)
    python tools/analysis_tools/get_flops.py $(models t) $(models s) $(models b) $(models l) \
        $heads --out flops.json
    python tools/misc/make_model_zoo.py --flops flops.json

Figures of other configs in the metafile that is there stay; weights and AP are renewed. Configs of
full size that are not in it are counted, not measured.
"""

import argparse
import json
from pathlib import Path

import torch
import yaml
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from mmdet_atc.engine import faults_in_one_line, load_config
from mmdet_atc.merging import METHODS, Method
from mmdet_atc.studies.table3 import all_cells, paper_values
from mmdet_atc.studies.tables import markdown_table

ROOT = Path(__file__).resolve().parents[2]
METAFILE = ROOT / 'configs' / 'metafile.yml'
MODEL_ZOO = ROOT / 'MODEL_ZOO.md'
RELEASED = 'hf://joakimbh'
TASKS = (('Object Detection', 'box AP'), ('Instance Segmentation', 'mask AP'))
TEXT = """# Model zoo

Written by `tools/misc/make_model_zoo.py` from `configs/metafile.yml`; do not edit.

Parameters in millions. GFLOPs are giga multiply-adds of one 800x1333 image, merging and deformable
attention included, by `tools/analysis_tools/get_flops.py`. **AP is the paper's** (Table 3: COCO
val2017, fine-tuned models; the dense models' is what they start from), not measured here; where
its table could not be read, or has no such model, there is none. Weights are the authors' files on
the Hugging Face hub, which any tool loads by this path.

{elsewhere}

{models}
"""

DENSE = Method(
    'dense', {}, 'ViT-Adapter', 'Vision Transformer Adapter for Dense Predictions',
    'https://arxiv.org/abs/2205.08534',
)  # fmt: skip
#: Methods by their word in a config's name.
BY_WORD = {'atc': METHODS['average'], 'vit': DENSE} | {
    name: method for name, method in METHODS.items() if method.family != 'ATC'
}

#: Weights that no tool can download by a path.
ELSEWHERE = """\
Weights that are elsewhere: download them by hand, then give the local file to `tools/test.py` or
as `load_from`; names and layout are read as they are.

| config | box AP | mask AP | where |
| --- | --- | --- | --- |
| [vit_adapter_t_global_3x](configs/vit_adapter_t_global_3x.py) | 45.8 | 40.9 | [1] |
| [vit_adapter_s_global_3x](configs/vit_adapter_s_global_3x.py) | 48.5 | 42.8 | [1] |
| [svit_vit_adapter_t](configs/svit_vit_adapter_t.py) | 45.5 | 40.7 | [1] |
| [svit_vit_adapter_s](configs/svit_vit_adapter_s.py) | 48.2 | 42.5 | [1] |
| `vit_adapter_{t,s}_window_3x` | 46.0, 48.2 | 41.0, 42.8 | [2] |
| [vit_adapter_b_window_3x](configs/vit_adapter_b_window_3x.py) | 49.6 | 43.6 | [2] |
| [vit_adapter_l_window_3x](configs/vit_adapter_l_window_3x.py) | 50.9 | 44.8 | [2] |
| [vit_adapter_s_dinov2_window_3x](configs/vit_adapter_s_dinov2_window_3x.py) | 50.8 | 44.9 | [3] |

[1] Google Drive, linked from the README of [SViT](https://github.com/uzh-rpg/svit) (its AP). SViT
of its paper runs 22.3 images a second (T, dense 18.5) and 15.8 (S, dense 11.7) there.
[2] The GitHub releases of [ViT-Adapter](https://github.com/czczup/ViT-Adapter) (its AP), where
there are weights.
[3] No weights: AP that its authors give in
[issue 108](https://github.com/czczup/ViT-Adapter/issues/108)."""


def collections() -> list[dict]:
    """Collections of the metafile."""
    return [
        dict(
            Name=method.family,
            Metadata={
                'Training Data': 'COCO',
                'Architecture': ['ViT-Adapter', 'FPN', 'Mask R-CNN'],
            },
            Paper=dict(Title=method.paper, URL=method.url),
            README='README.md',
        )
        for method in BY_WORD.values()
    ]


def models(flops: dict) -> list[dict]:
    """Entries of the metafile in the order of the measured configs.

    Linkages differ in which tokens share a cluster, not in how many clusters there are: what was
    measured of average linkage holds for single and complete, where there are such configs.
    """
    height, width = flops['shape']
    entries = []
    for row in flops['rows']:
        figures = {
            'Parameters': row['parameters'],
            'FLOPs': round(row['macs']['total']),
            'Backbone FLOPs': round(row['macs']['backbone']),
            'FLOPs are': f'multiply-adds at {height}x{width}, measured by get_flops.py',
        }
        linkages = ('average', 'single', 'complete') if '_average_' in row['name'] else ('average',)
        for name in (row['name'].replace('average', linkage) for linkage in linkages):
            if (ROOT / 'configs' / f'{name}.py').is_file():
                entries.append(entry_of(name, dict(figures)))
    return entries


def counted(names: list[str]) -> list[dict]:
    """Entries of configs that nobody measured."""
    init_default_scope('mmdet')
    entries = []
    for name in names:
        cfg = load_config(str(ROOT / f'configs/{name}.py'), {'model.backbone.init_cfg': None})
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
        count = sum(parameter.numel() for parameter in model.parameters())
        entries.append(entry_of(name, {'Parameters': count}))
    return entries


def entry_of(name: str, metadata: dict) -> dict:
    config = f'configs/{name}.py'
    family = method_of(name).family
    return {'Name': name, 'In Collection': family, 'Config': config, 'Metadata': metadata}


def method_of(name: str) -> Method:
    """The method of a config, whose name may begin with that of a head."""
    return next(BY_WORD[word] for word in name.split('_') if word in BY_WORD)


def add_published(entries: list[dict]) -> None:
    """Add released weights and the paper's AP to the entries of the metafile that have them."""
    cells = {cell.config: cell for cell in all_cells() if cell.regime in ('fine-tuned', 'dense')}
    for entry in entries:
        cell = cells.get(entry['Config'])
        if cell is None:
            continue
        if cell.regime == 'fine-tuned':
            entry['Weights'] = cell.checkpoint({}, RELEASED)
        entry['Results'] = [
            {'Task': task, 'Dataset': 'COCO', 'Metrics': {f'{name} (paper)': value}}
            for (task, name), value in zip(TASKS, paper_values()[cell.name], strict=True)
            if value is not None
        ]


def model_zoo(metafile: dict) -> str:
    """MODEL_ZOO.md."""
    rows = []
    for model in metafile['Models']:
        data = model['Metadata']
        metrics: dict = {}
        for result in model.get('Results', []):
            metrics.update(result['Metrics'])
        rows.append(
            [
                f'[{model["Name"]}]({model["Config"]})',
                data['Parameters'] / 1e6,
                shown(data.get('FLOPs'), 1e9),
                shown(data.get('Backbone FLOPs'), 1e9),
                *(shown(metrics.get(f'{name} (paper)')) for _, name in TASKS),
                f'`{model["Weights"]}`' if 'Weights' in model else None,
            ]
        )
    head = ['config', 'parameters', 'GFLOPs', 'backbone GFLOPs', 'box AP', 'mask AP', 'weights']
    return TEXT.format(elsewhere=ELSEWHERE, models=markdown_table(head, rows))


def shown(value: float | None, unit: float = 1.0) -> str | None:
    """With one decimal, as the paper gives AP."""
    return None if value is None else f'{value / unit:.1f}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--flops', type=Path, help='what get_flops.py --out wrote')
    args = parser.parse_args()
    by_name = {entry['Name']: entry for entry in yaml.safe_load(METAFILE.read_text())['Models']}
    if args.flops:
        measured = models(json.loads(args.flops.read_text()))
        by_name |= {entry['Name']: entry for entry in measured}
    names = sorted(path.stem for path in ROOT.glob('configs/*_[tsbl]_*.py'))
    entries = [*by_name.values(), *counted([name for name in names if name not in by_name])]
    add_published(entries)
    metafile = dict(Collections=collections(), Models=entries)
    METAFILE.write_text(yaml.safe_dump(metafile, sort_keys=False, width=100))
    MODEL_ZOO.write_text(model_zoo(metafile))


if __name__ == '__main__':
    with faults_in_one_line(mistakes=True):
        main()
