"""Untrusted and damaged checkpoints are refused with one line, wherever they are given."""

from __future__ import annotations

import functools
import os
import pickle
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save_file

from mmdet_atc.checkpoints import CheckpointError, DownloadError, load_safely, verify_checkpoint


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write_zip(content, path):
    torch.save(content, path)


def write_old(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.fixture(params=[write_zip, write_old, write_pickle])
def hostile(request, tmp_path):
    """A file that makes the folder ``owned`` beside it when it is unpickled."""
    path = tmp_path / 'hostile.pth'
    request.param({'state_dict': Malicious(tmp_path / 'owned')}, path)
    return path


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *args: None
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def test_code_in_a_local_file_does_not_run(hostile, tmp_path):
    for load in (verify_checkpoint, CheckpointLoader.load_checkpoint):
        with pytest.raises(CheckpointError, match=r'hostile.pth: the checkpoint holds'):
            load(str(hostile))
    assert not (tmp_path / 'owned').exists()


def test_no_environment_variable_switches_that_off(hostile, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with pytest.raises(CheckpointError):
        CheckpointLoader.load_checkpoint(str(hostile))
    assert not (tmp_path / 'owned').exists()


def test_code_in_a_downloaded_file_does_not_run(hostile, tmp_path, server):
    with pytest.raises(CheckpointError, match=f'{server}/hostile.pth, .*: the checkpoint holds'):
        CheckpointLoader.load_checkpoint(f'{server}/hostile.pth', map_location='cpu')
    assert (tmp_path / 'torch').exists()  # it was downloaded
    assert not (tmp_path / 'owned').exists()


@pytest.mark.parametrize('address', ['{server}/none.pth', 'http://127.0.0.1:9/none.pth'])
def test_an_address_that_gives_nothing_is_named(address, server):
    url = address.format(server=server)
    with pytest.raises(DownloadError, match=f'cannot load {url}: .*; check the address') as error:
        CheckpointLoader.load_checkpoint(url, map_location='cpu')
    assert '\n' not in str(error.value)


def test_a_downloaded_file_that_is_cut_off_says_where_it_is(tmp_path, server):
    torch.save({'state_dict': {'a': torch.ones(2000)}}, tmp_path / 'cut.pth')
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'cut.pth').read_bytes()[:999])
    with pytest.raises(CheckpointError, match=r'downloaded to .*: no complete checkpoint') as error:
        CheckpointLoader.load_checkpoint(f'{server}/cut.pth', map_location='cpu')
    assert str(tmp_path / 'torch') in str(error.value)


@pytest.mark.parametrize('write', [write_zip, write_old])
def test_whole_files_pass(tmp_path, write):
    path = tmp_path / 'good.pth'
    write({'state_dict': {'a': torch.ones(2)}, 'meta': {'epoch': 3}}, path)
    verify_checkpoint(str(path))
    assert CheckpointLoader.load_checkpoint(str(path))['meta'] == {'epoch': 3}


@pytest.mark.parametrize('write', [write_zip, write_old])
@pytest.mark.parametrize('kept', [0, 1, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, write, kept):
    path = tmp_path / 'cut.pth'
    write({'state_dict': {'a': torch.ones(2000)}}, path)
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept in (0, 1) else int(kept * len(content))])
    for load in (verify_checkpoint, CheckpointLoader.load_checkpoint):
        with pytest.raises(CheckpointError, match=r'cut.pth: no complete checkpoint') as error:
            load(str(path))
        assert '\n' not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    for load in (verify_checkpoint, CheckpointLoader.load_checkpoint):
        with pytest.raises(FileNotFoundError, match=r'no/such\.pth'):
            load('no/such.pth')


@pytest.mark.parametrize('name', ['model.safetensors', 'model.pth'])
def test_safetensors_files_load_whatever_they_are_called(tmp_path, name):
    path = str(tmp_path / name)
    weights = {'patch_embed.proj.weight': torch.arange(6.0).reshape(2, 3)}
    save_file(weights, path)
    loaded = load_safely(path)
    assert list(loaded) == list(weights)
    assert torch.equal(loaded['patch_embed.proj.weight'], weights['patch_embed.proj.weight'])
    verify_checkpoint(path)


@pytest.mark.parametrize('kept', [0, 5, 12, 60, 300])
def test_a_safetensors_file_that_was_cut_off_is_named(tmp_path, kept):
    path = tmp_path / 'model.safetensors'
    save_file({'weight': torch.zeros(100)}, str(path))
    path.write_bytes(path.read_bytes()[:kept])
    for check in (verify_checkpoint, load_safely):
        with pytest.raises(CheckpointError, match=r'model\.safetensors: no complete ') as error:
            check(str(path))
        assert '\n' not in str(error.value)


def test_numpy_archives_are_read(tmp_path):
    np.savez(tmp_path / 'vit.npz', **{'a/kernel': np.arange(3.0)})
    assert load_safely(str(tmp_path / 'vit.npz'))['a/kernel'].tolist() == [0, 1, 2]
    verify_checkpoint(str(tmp_path / 'vit.npz'))


@pytest.mark.parametrize('check', [load_safely, verify_checkpoint])
def test_numpy_archives_of_objects_or_cut_off_are_refused(tmp_path, check):
    path = tmp_path / 'vit.npz'
    np.savez(path, weight=np.array([dict(a=1)]))
    with pytest.raises(CheckpointError, match=r'vit\.npz: no complete NumPy archive of numbers'):
        check(str(path))
    np.savez(path, weight=np.zeros(3000))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(CheckpointError, match=r'vit\.npz: no complete NumPy archive') as error:
        load_safely(str(path))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['vit.npz', 'vit.safetensors', 'vit.pth'])
def test_every_format_is_downloaded(tmp_path, server, name):
    if name.endswith('.npz'):
        np.savez(tmp_path / name, weight=np.ones(3))
    else:
        write = torch.save if name.endswith('.pth') else save_file
        write({'weight': torch.ones(3)}, str(tmp_path / name))
    for _ in range(2):
        found = CheckpointLoader.load_checkpoint(f'{server}/{name}', map_location='cpu')
        assert torch.equal(found['weight'].float(), torch.ones(3))
    assert (tmp_path / 'torch').exists()
    with pytest.raises(DownloadError, match='check the address and the connection'):
        CheckpointLoader.load_checkpoint(f'{server}/other_{name}', map_location='cpu')


def test_a_torchscript_program_says_what_it_is(tmp_path):
    path = str(tmp_path / 'clip.pt')
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with pytest.raises(CheckpointError, match=r'clip\.pt: it is a TorchScript program'):
        load_safely(path)
