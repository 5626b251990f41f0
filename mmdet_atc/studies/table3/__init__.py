"""The paper's detection experiment (ATC, Table 3) as a sweep of cells."""

from .cells import Cell, all_cells
from .run import Sweep
from .table import below_dense, paper_values, plot, write_csv, write_markdown

__all__ = [
    'Cell',
    'Sweep',
    'all_cells',
    'below_dense',
    'paper_values',
    'plot',
    'write_csv',
    'write_markdown',
]
