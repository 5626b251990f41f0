#!/usr/bin/env python
"""Write ``configs/metafile.yml`` and ``MODEL_ZOO.md`` from what ``get_flops.py --out`` measured.

    models() { ls -U configs/vit_adapter_$1_* configs/atc_*_$1_average_* \
        configs/{tome,dpcknn,kmedoids,topk}_*_$1_r*; }
    python tools/analysis_tools/get_flops.py $(models t) $(models s) --out flops.json
    python tools/misc/make_model_zoo.py --flops flops.json

Without ``--flops`` only MODEL_ZOO.md is written, from the metafile that is there.
"""

import argparse
import json
from pathlib import Path

import yaml

from mmdet_atc.studies.table3 import Cell, all_cells, paper_values

ROOT = Path(__file__).resolve().parents[2]
METAFILE = ROOT / 'configs' / 'metafile.yml'
MODEL_ZOO = ROOT / 'MODEL_ZOO.md'
RELEASED = 'hf://joakimbh'
COLUMNS = ('config', 'parameters', 'GFLOPs', 'backbone GFLOPs', 'box AP', 'mask AP', 'weights')

#: First word of a config's name: name, title and address of the paper that its models are from.
COLLECTIONS = {
    'atc': ('ATC', 'Agglomerative Token Clustering', 'https://arxiv.org/abs/2409.11923'),
    'vit': (
        'ViT-Adapter',
        'Vision Transformer Adapter for Dense Predictions',
        'https://arxiv.org/abs/2205.08534',
    ),
    'tome': ('ToMe', 'Token Merging: Your ViT But Faster', 'https://arxiv.org/abs/2210.09461'),
    'dpcknn': (
        'DPC-KNN',
        'Not All Tokens Are Equal: Human-centric Visual Analysis via Token Clustering Transformer',
        'https://arxiv.org/abs/2204.08680',
    ),
    'kmedoids': (
        'K-Medoids',
        'Token Pooling in Vision Transformers for Image Classification',
        'https://arxiv.org/abs/2110.03860',
    ),
    'topk': (
        'Top-K',
        'Which Tokens to Use? Investigating Token Reduction in Vision Transformers',
        'https://arxiv.org/abs/2308.04657',
    ),
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
| `vit_adapter_{t,s}_window_3x` | | | [2] |

[1] Google Drive, linked from the README of [SViT](https://github.com/uzh-rpg/svit) (its AP). SViT
of its paper runs 22.3 images a second (T, dense 18.5) and 15.8 (S, dense 11.7) there.
[2] The GitHub releases of [ViT-Adapter](https://github.com/czczup/ViT-Adapter)."""


def collections() -> list[dict]:
    """Collections of the metafile."""
    return [
        dict(
            Name=name,
            Metadata={
                'Training Data': 'COCO',
                'Architecture': ['ViT-Adapter', 'FPN', 'Mask R-CNN'],
            },
            Paper=dict(Title=title, URL=url),
            README='README.md',
        )
        for name, title, url in COLLECTIONS.values()
    ]


def models(flops: dict) -> list[dict]:
    """Entries of the metafile in the order of the measured configs.

    Linkages differ in which tokens share a cluster, not in how many clusters there are: what was
    measured of average linkage holds for single and complete.
    """
    released = {Path(cell.config).stem: cell for cell in all_cells() if cell.regime == 'fine-tuned'}
    height, width = flops['shape']
    entries = []
    rows = []
    for row in flops['rows']:
        linkages = ('average', 'single', 'complete') if '_average_' in row['name'] else ('',)
        rows += [{**row, 'name': row['name'].replace('average', one)} for one in linkages]
    for row in rows:
        cell = released.get(row['name'])
        entry = {
            'Name': row['name'],
            'In Collection': COLLECTIONS[row['name'].partition('_')[0]][0],
            'Config': f'configs/{row["name"]}.py',
            'Metadata': {
                'Parameters': row['parameters'],
                'FLOPs': round(row['macs']['total']),
                'Backbone FLOPs': round(row['macs']['backbone']),
                'FLOPs are': f'multiply-adds at {height}x{width}, measured by get_flops.py',
            },
        }
        if cell is not None:
            entry['Weights'] = cell.checkpoint({}, RELEASED)
            entry['Results'] = paper_results(cell)
        entries.append(entry)
    return entries


def paper_results(cell: Cell) -> list[dict]:
    """The paper's AP of a released model, where it is known."""
    values = paper_values().get(cell.name)
    if values is None:
        return []
    names = (('Object Detection', 'box AP'), ('Instance Segmentation', 'mask AP'))
    return [
        {'Task': task, 'Dataset': 'COCO', 'Metrics': {f'{name} (paper)': value}}
        for (task, name), value in zip(names, values, strict=True)
    ]


def model_zoo(metafile: dict) -> str:
    """MODEL_ZOO.md."""
    lines = [
        '# Model zoo',
        '',
        'Written by `tools/misc/make_model_zoo.py` from `configs/metafile.yml`; do not edit.',
        '',
        'Parameters in millions. GFLOPs are giga multiply-adds of one 800x1333 image, merging and',
        'deformable attention included, by `tools/analysis_tools/get_flops.py`. Weights are the',
        "authors' files on the Hugging Face hub, which any tool here loads by this path; AP is the",
        "paper's where it is given.",
        '',
        *ELSEWHERE.splitlines(),
        '',
        '| ' + ' | '.join(COLUMNS) + ' |',
        '|' + ' --- |' * len(COLUMNS),
    ]
    for model in metafile['Models']:
        data = model['Metadata']
        metrics: dict = {}
        for result in model.get('Results', []):
            metrics.update(result['Metrics'])
        weights = f'`{model["Weights"]}`' if 'Weights' in model else '-'
        lines.append(
            f'| [{model["Name"]}]({model["Config"]}) | {data["Parameters"] / 1e6:.2f} '
            f'| {data["FLOPs"] / 1e9:.1f} | {data["Backbone FLOPs"] / 1e9:.1f} '
            f'| {metrics.get("box AP (paper)", "-")} | {metrics.get("mask AP (paper)", "-")} '
            f'| {weights} |'
        )
    return '\n'.join(lines) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--flops', type=Path, help='what get_flops.py --out wrote')
    args = parser.parse_args()
    if args.flops:
        metafile = dict(
            Collections=collections(), Models=models(json.loads(args.flops.read_text()))
        )
        METAFILE.write_text(yaml.safe_dump(metafile, sort_keys=False, width=100))
    MODEL_ZOO.write_text(model_zoo(yaml.safe_load(METAFILE.read_text())))


if __name__ == '__main__':
    main()
