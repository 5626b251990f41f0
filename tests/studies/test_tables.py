"""Tables that Markdown shows as they are meant."""

from __future__ import annotations

import pytest

from mmdet_atc.studies.tables import markdown_table


def test_a_table_has_a_line_per_row():
    table = markdown_table(['name', 'AP'], [['a', 45.678], [3, None]])
    assert table == '| name | AP |\n| --- | --- |\n| a | 45.68 |\n| 3 | - |'


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match='2 columns, but a row of 1 cells'):
        markdown_table(['name', 'AP'], [['a']])
