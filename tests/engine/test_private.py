"""The private names of MMEngine that the package uses mean what it takes them for."""

from __future__ import annotations

from types import SimpleNamespace

from mmengine.config import Config
from mmengine.model import BaseModel, BaseTTAModel, ImgDataPreprocessor

from mmdet_atc.engine.private import (
    base_files,
    normalises,
    parsed_value,
    turns_channels,
    unwrapped,
    values_of,
)

from ..conftest import ROOT


class _Model(BaseModel):
    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


class _TTA(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


def test_the_model_inside_of_wrappers_is_found():
    model = _Model()
    assert unwrapped(SimpleNamespace(model=_TTA(model))) is model
    assert unwrapped(SimpleNamespace(model=model)) is model


def test_base_files_of_a_config_exist():
    path = str(ROOT / 'configs/atc_vit_adapter_t_average_r50.py')
    (base,) = base_files(path)
    assert base.endswith('finetune_t.py')


def test_values_are_read_as_on_the_command_line():
    assert parsed_value('(0.5,0.25)') == (0.5, 0.25)
    assert parsed_value('[1,2]') == [1, 2]
    assert values_of(Config(dict(a=dict(b=1)))) == dict(a=dict(b=1))


def test_what_a_preprocessor_does():
    plain = ImgDataPreprocessor()
    full = ImgDataPreprocessor(mean=[1, 2, 3], std=[1, 1, 1], bgr_to_rgb=True)
    assert (turns_channels(plain), normalises(plain)) == (False, False)
    assert (turns_channels(full), normalises(full)) == (True, True)
