"""A small detector with random weights, whose classes are few enough to score above thresholds."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmdet_atc.apis import DetInferencer
from mmdet_atc.apis.exported import config_of
from mmdet_atc.deployment import FORMATS, Spec, TraceableDetector, save

from ..conftest import ROOT
from ..tools.micro_runs import dumped, untrained

OPTIONS = {
    'model.backbone.embed_dim': 48,
    'model.backbone.depth': 4,
    'model.backbone.interaction_indexes': [[0, 1], [2, 3]],
    'model.backbone.merge_blocks': [1, 3],
    'model.neck.in_channels': [48] * 4,
}


@pytest.fixture(scope='session', autouse=True)
def _can_export():
    if torch.__version__ < (2, 11):
        pytest.skip('torch exports to all formats since 2.11')


@pytest.fixture(scope='session', autouse=True)
def _quiet():
    # pytest would keep the many megabytes that the compiler logs of every trace.
    logger = logging.getLogger('torch.__trace')
    logger.disabled, before = True, logger.disabled
    yield
    logger.disabled = before


@pytest.fixture(scope='session', autouse=True)
def _on_ci():
    # torch's compiler refuses more where this is set, as services that run tests do.
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv('CI', 'true')
        yield


@pytest.fixture(scope='session')
def config(tmp_path_factory):
    return dumped(tmp_path_factory.mktemp('config'), OPTIONS)


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('checkpoint') / 'micro.pth'
    torch.save(dict(meta={}, state_dict=untrained(options=OPTIONS)), path)
    return str(path)


@pytest.fixture(scope='session')
def inferencer(config, checkpoint):
    return DetInferencer(config, checkpoint, device='cpu', show_progress=False)


@pytest.fixture(scope='session')
def images(coco_tiny):
    return sorted(map(str, (coco_tiny / 'val2017').glob('*.jpg')))


@pytest.fixture(scope='session')
def made_once(tmp_path_factory):
    """Function of a name and another that fills a folder, which is called in one test process."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if 'PYTEST_XDIST_WORKER' in os.environ else root

    def folder_of(name, fill):
        folder = root / name
        folder.mkdir(exist_ok=True)
        with open(root / f'{name}.lock', 'a+') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not lock.seek(0, os.SEEK_END):
                fill(folder)
                lock.write('filled')
        return folder

    return folder_of


@pytest.fixture(scope='session')
def built():
    """Function that builds a project of tools/deployment in a folder.

    It gives the process of CMake that failed, else the last one.
    """
    beside = Path(sys.executable).parent
    cmake = shutil.which('cmake', path=f'{beside}{os.pathsep}{os.environ["PATH"]}')
    if cmake is None:
        pytest.skip('there is no cmake: pip install -r requirements/tests.txt')

    def build(project, folder, *options):
        sources = ROOT / 'tools/deployment' / project
        configure = '-S', sources, '-B', folder, f'-DPython_EXECUTABLE={sys.executable}', *options
        environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
        for arguments in (configure, ('--build', folder)):
            process = subprocess.run(
                [cmake, *arguments], env=environment, capture_output=True, text=True
            )
            if process.returncode:
                break
        return process

    return build


@pytest.fixture(scope='session')
def package(inferencer, made_once):
    """A file of format aoti for pictures of up to 96 x 128 pixels; compiling it takes a minute."""
    spec = Spec(96, 128, config=config_of(inferencer))
    detector = TraceableDetector(inferencer.model)
    folder = made_once('aoti', lambda folder: save(detector, spec, folder / 'micro.pt2', 'aoti'))
    return folder / 'micro.pt2'


@pytest.fixture(scope='session')
def dynamic_file(inferencer, made_once):
    """Function of a format: its file for pictures of all sizes and any number of them."""

    def file_of(format):
        spec = Spec(128, 160, dynamic=True, config=config_of(inferencer))
        detector = TraceableDetector(inferencer.model)
        name = f'micro{FORMATS[format][1]}'
        folder = made_once(
            f'dynamic_{format}', lambda folder: save(detector, spec, folder / name, format)
        )
        return folder / name

    return file_of
