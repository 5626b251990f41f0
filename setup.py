"""Metadata is in setup.cfg; this puts configs and tools into wheels, where MMEngine seeks them."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithTools(build_py):
    """Copies what a clone has beside the package to ``mmdet_atc/.mim/``."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, 'mmdet_atc', '.mim')
        shutil.rmtree(folder, ignore_errors=True)
        for name in ('configs', 'demo', 'tools'):
            shutil.copytree(name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copy('model-index.yml', folder)


setup(cmdclass={'build_py': BuildWithTools})
