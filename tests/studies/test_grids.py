"""Grids go on where they stopped, and show the paper's values where there are any."""

from __future__ import annotations

import re
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image

from mmdet_atc.studies.grids import paper_value, run_grid, with_paper


def table_of(folder, settings, names, run, say=print) -> str:
    """A grid of one row."""
    columns = {name: name for name in names}
    row = {'ours': 'ours'}
    return run_grid(folder, settings, row, columns, lambda _, name: name, run, ['value'], say=say)


def test_cells_with_a_file_are_not_run_again(tmp_path):
    ran, said = [], []

    def run(row, cell):
        ran.append(cell)
        if cell == 'b':
            raise OSError('no weights')
        return dict(value=7)

    table = table_of(tmp_path, {}, ['a', 'b'], run, said.append)
    assert table.splitlines()[2] == '| ours | 7.0 | - |'
    assert 'b: left out: no weights' in said[1]
    table_of(tmp_path, {}, ['a', 'b', 'c'], run, said.append)
    assert ran == ['a', 'b', 'b', 'c']


def test_cells_of_other_settings_are_not_taken(tmp_path):
    table_of(tmp_path, dict(limit=10), ['a'], lambda *cell: dict(value=1))
    with pytest.raises(ValueError, match='begun with other settings'):
        table_of(tmp_path, dict(limit=None), ['a'], lambda *cell: dict(value=2))
    table = table_of(tmp_path, dict(limit=10), ['a'], lambda *cell: dict(value=3))
    assert table.splitlines()[2] == '| ours | 1.0 |'


def test_a_misspelt_row_of_table1_is_refused(tmp_path, run_tool, capsys):
    with pytest.raises(SystemExit):
        run_tool('tools/reproduce_table1.py', 'any', '--out-dir', tmp_path, '--regimes', 'tuned')
    assert "invalid choice: 'tuned'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--sizes', 'tiny'), '--sizes of the mae study are base, large, huge'),
        (('--study', 'deit', '--sizes', 'huge'), '--sizes of the deit study are tiny, small, base'),
        (('--study', 'deit', '--methods', 'tome'), '--methods of the deit study are single,'),
    ],
)
def test_a_table_without_a_cell_is_refused(tmp_path, run_tool, capsys, words, message):
    with pytest.raises(SystemExit):
        run_tool('tools/reproduce_table1.py', 'any', '--out-dir', tmp_path, *words)
    assert message in capsys.readouterr().err


def test_papers_values():
    assert paper_value('table1', 'off-the-shelf complete', 'base linear 16') == 67.1
    assert paper_value('table1', 'fine-tuned tome', 'huge linear 7') == 86.1
    assert paper_value('table2', 'average', 0.4) == 33.22
    assert paper_value('table2', 'dpcknn', 0.4) is None
    assert with_paper(80.23, 80.2) == '80.2 (paper 80.2)'
    assert with_paper(None, 33.22, 2) == '- (paper 33.22)'
    assert with_paper(None, None) == '-'


def test_table1_without_weights_shows_the_papers_values(tmp_path, run_tool, capsys):
    (tmp_path / 'val' / 'n01').mkdir(parents=True)
    Image.new('RGB', (8, 8)).save(tmp_path / 'val/n01/a.jpg')
    run_tool(
        'tools/reproduce_table1.py',
        tmp_path,
        *('--sizes', 'base', '--checkpoints', tmp_path, '--out-dir', tmp_path / 'out'),
        *('--methods', 'complete', '--workers', '0', '--device', 'cpu'),
    )
    table = (tmp_path / 'out/table.md').read_text()
    assert '| off-the-shelf complete | - (paper 80.2) | - (paper 67.1) |' in table
    assert '| dense | - (paper 83.6) | - (paper 83.6) |' in table
    assert 'left out' in capsys.readouterr().out


def test_a_folder_of_other_settings_is_told_in_one_line(tmp_path, run_tool):
    (tmp_path / 'settings.txt').write_text('{}')
    with pytest.raises(SystemExit, match=r'^error: .* begun with other settings'):
        run_tool('tools/reproduce_table1.py', 'any', '--out-dir', tmp_path)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--keep-rates', '1.5'), r'--keep-rates must be in \(0, 1\], got 1.5'),
        (('--references', 'empty'), 'no images in empty'),
    ],
)
def test_table2_refuses_before_it_makes_images(
    tmp_path, run_tool, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, 'cleanfid', ModuleType('cleanfid'))
    sys.modules['cleanfid'].fid = None
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'classes.txt').write_text('tench\n')
    with pytest.raises(SystemExit) as exit:
        run_tool('tools/reproduce_table2.py', *words, '--classes', 'classes.txt', '--out-dir', 'o')
    assert re.search(message, f'{exit.value} {capsys.readouterr().err}')
    assert not (tmp_path / 'o').exists()


def test_table2_makes_each_image_once(tmp_path, run_tool, monkeypatch):
    pytest.importorskip('diffusers', reason='pip install -r requirements/diffusers.txt')
    from diffusers import StableDiffusionPipeline

    from tests.integrations.test_diffusers import micro

    calls = []

    class Pipe(SimpleNamespace):
        def set_progress_bar_config(self, disable):
            pass

        def to(self, device):
            return self

        def __call__(self, prompt, generator, **options):
            with torch.no_grad():
                self.unet(torch.randn(1, 4, 8, 8), 1, torch.randn(1, 5, 8))
            calls.append((prompt, generator.initial_seed(), len(self.unet.token_clusters)))
            return SimpleNamespace(images=[Image.new('RGB', (8, 8))])

    monkeypatch.setattr(
        StableDiffusionPipeline, 'from_pretrained', lambda *a, **k: Pipe(unet=patched)
    )
    patched = micro()
    patched.token_clusters = ()
    classes = tmp_path / 'classes.txt'
    classes.write_text('tench, Tinca tinca\ngoldfish\n')
    args = ('--classes', classes, '--out-dir', tmp_path / 'out', '--device', 'cpu')
    args = (*args, '--methods', 'complete', '--keep-rates', '0.5')
    run_tool('tools/reproduce_table2.py', *args)
    assert [(prompt, seed) for prompt, seed, _ in calls] == [
        ('A high quality photograph of a tench, Tinca tinca.', 0),
        ('A high quality photograph of a tench, Tinca tinca.', 1),
        ('A high quality photograph of a goldfish.', 10),
        ('A high quality photograph of a goldfish.', 11),
    ]
    table = (tmp_path / 'out/table.md').read_text().splitlines()
    assert (table[0], table[2]) == ('| FID | 50% |', '| complete | - (paper 33.56) |')
    # Images that were made before there were any to compare with.
    (tmp_path / 'out/images/complete_r50/0001_0.png').unlink()
    clean = ModuleType('cleanfid')
    clean.fid = SimpleNamespace(compute_fid=lambda *folders, **options: 34.5)
    monkeypatch.setitem(sys.modules, 'cleanfid', clean)
    run_tool('tools/reproduce_table2.py', *args, '--references', tmp_path)
    assert len(calls) == 5
    assert '| complete | 34.50 (paper 33.56) |' in (tmp_path / 'out/table.md').read_text()
