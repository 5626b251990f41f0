"""Generated data and one training run, which the tests of the tools share."""

from __future__ import annotations

import json

import pytest

from mmdet_atc.datasets import generate_shapes_dataset

from .micro_runs import CONFIG, SMALL
from .processes import run


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    root = generate_shapes_dataset(tmp_path_factory.mktemp('data') / 'shapes', 12, 6)
    path = root / 'annotations' / 'instances_val2017.json'
    content = json.loads(path.read_text())
    # An image without objects, which detections on count as wrong.
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] != 3]
    path.write_text(json.dumps(content))
    return root


@pytest.fixture(scope='session')
def trained(data, tmp_path_factory):
    """Work dir of an uninterrupted training run of two epochs, with pictures of clusters."""
    work_dir = tmp_path_factory.mktemp('trained')
    hook = 'default_hooks.clusters'
    clusters = [f'{hook}.draw=True', f'{hook}.num_images=2', f'{hook}.methods=[average,tome]']
    run(
        data, 'tools/train.py', CONFIG, '--work-dir', str(work_dir), '--cfg-options', *SMALL,
        *clusters,
    )  # fmt: skip
    return work_dir


@pytest.fixture
def tool(run_tool):
    """Run a tool in this process and return the line that it ends with."""

    def run(*args: str) -> str:
        with pytest.raises(SystemExit) as end:
            run_tool(*args)
        line = end.value.code
        assert isinstance(line, str)  # which Python turns into status 1
        assert line.startswith('error: ')
        assert '\n' not in line
        return line

    return run
