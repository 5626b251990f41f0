"""One cell of the table: a model, how it was trained, how tokens are merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmdet_atc.merging import METHODS

SIZES = ('tiny', 'small')
REGIMES = ('off-the-shelf', 'fine-tuned')
PAPER_METHODS = ('tome', 'single', 'average', 'complete')
#: The paper's, then those that it does not have.
ALL_METHODS = (*PAPER_METHODS, *(name for name in METHODS if name not in PAPER_METHODS))
KEEP_RATES = (25, 50, 70, 90)


@dataclass(frozen=True)
class Cell:
    """A cell; its name is also that of the file that it is saved in.

    Args:
        size (str): ``'tiny'`` or ``'small'``.
        regime (str): ``'off-the-shelf'`` (the dense model's weights) or ``'fine-tuned'``; of the
            dense model itself ``'dense'``.
        method (str): One of :data:`ALL_METHODS`, or ``'dense'``.
        keep_rate (int): Per cent of the tokens that stays at each merge.
    """

    size: str
    regime: str
    method: str
    keep_rate: int

    @property
    def name(self) -> str:
        return f'{self.size}_{self.regime}_{self.method}_r{self.keep_rate}'

    @property
    def config(self) -> str:
        """Path of the paper's config below the root of the project."""
        letter = self.size[0]
        if self.method == 'dense':
            return f'configs/vit_adapter_{letter}_global_3x.py'
        if self.method == 'tome':
            return f'configs/tome_vit_adapter_{letter}_r{self.keep_rate}.py'
        return f'configs/atc_vit_adapter_{letter}_{self.method}_r{self.keep_rate}.py'

    @property
    def merging_options(self) -> list[str]:
        """``KEY=VALUE`` that turn the config of any dense detector into that of this cell."""
        if self.method == 'dense':
            return []
        merging = {**METHODS[self.method].merging, 'keep_rate': self.keep_rate / 100}
        values = [f'model.backbone.merging.{key}={value}' for key, value in merging.items()]
        return ['model.backbone.type=ATCViTAdapter', *values]

    def checkpoint(self, dense: dict[str, str], released: str) -> str:
        """Where the weights are.

        Args:
            dense (dict[str, str]): Checkpoint of the dense model of each size.
            released (str): What the released repositories lie under: ``hf://joakimbh`` or a folder
                laid out alike.

        Returns:
            str: File or URL.

        Raises:
            ValueError: If the cell needs the dense checkpoint of a size that is not given.
        """
        if self.regime == 'fine-tuned':
            rate = f'{self.keep_rate / 100:g}'.replace('.', '')
            if self.method == 'tome':
                repository, suffix = f'tome_{self.size}-coco17', ''
            else:
                repository, suffix = f'atc_{self.size}-coco17-{self.method}', f'-{self.method}'
            family = repository.split('-')[0]
            return f'{released}/{repository}/{family}-coco17-{rate}{suffix}.pth'
        if self.size not in dense:
            raise ValueError(
                f'{self.name} needs the dense checkpoint of this size: --dense-{self.size} FILE'
            )
        return dense[self.size]


def all_cells(
    sizes: Sequence[str] = SIZES,
    regimes: Sequence[str] = REGIMES,
    methods: Sequence[str] = PAPER_METHODS,
    keep_rates: Sequence[int] = KEEP_RATES,
) -> list[Cell]:
    """Every combination that there is; ToMe cannot keep less than half of the tokens.

    The dense model is one cell of off-the-shelf, the first of each size.
    """
    cells = []
    for size in sizes:
        if 'off-the-shelf' in regimes:
            cells.append(Cell(size, 'dense', 'dense', 100))
        cells += [
            Cell(size, regime, method, rate)
            for regime in regimes
            for method in methods
            for rate in keep_rates
            if not (method == 'tome' and rate < 50)
        ]
    return cells
