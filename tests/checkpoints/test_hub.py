"""``hf://`` paths against a server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmdet_atc.backbones import ViTAdapter
from mmdet_atc.checkpoints import CheckpointError, DownloadError
from mmdet_atc.checkpoints.hub import PUBLISHED_SHA256, HubFile
from mmdet_atc.studies.table3 import all_cells

from .hub_server import MAIN, TAGGED, HubServer, use_endpoint

REPO, FILE = 'someone/atc_tiny', 'folder/atc.pth'


def packed(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


CONTENT = packed(dict(meta=dict(epoch=6), state_dict=dict(weight=torch.arange(5000.0))))


def load(path: str) -> torch.Tensor:
    return CheckpointLoader.load_checkpoint(path, map_location='cpu')['state_dict']['weight']


def refusal(path: str, kind: type[Exception] = DownloadError) -> str:
    """Message of the error that loading ends in, which is one line."""
    with pytest.raises(kind) as caught:
        load(path)
    message = str(caught.value)
    assert '\n' not in message
    return message


def test_a_file_is_downloaded_once(hub, hub_cache):
    path = hub.publish(REPO, FILE, CONTENT)
    for _ in range(2):
        assert torch.equal(load(path), torch.arange(5000.0))
    assert len(hub.asked) == 2  # asks whether the branch moved
    assert len(hub.fetched) == 1
    snapshot = hub_cache / 'models--someone--atc_tiny' / 'snapshots' / MAIN / FILE
    assert snapshot.read_bytes() == CONTENT


def test_revisions_are_branches_tags_and_commits(hub):
    path = hub.publish(REPO, FILE, CONTENT)
    tagged = packed(dict(state_dict=dict(weight=torch.ones(1))))
    hub.publish(REPO, FILE, tagged, ref='v1', commit=TAGGED)
    assert len(load(path)) == len(load(f'{path}@main')) == len(load(f'{path}@{MAIN}')) == 5000
    assert len(load(f'{path}@v1')) == len(load(f'{path}@{TAGGED}')) == 1


def test_a_moved_branch_is_followed(hub):
    path = hub.publish(REPO, FILE, CONTENT)
    assert len(load(path)) == 5000
    newer = packed(dict(state_dict=dict(weight=torch.ones(1))))
    hub.publish(REPO, FILE, newer, commit=TAGGED)
    assert len(load(path)) == 1


def test_a_renamed_repository_is_found(hub):
    hub.publish(REPO, FILE, CONTENT)
    hub.renamed['old/name'] = REPO
    assert len(load(f'hf://old/name/{FILE}')) == 5000


def test_a_token_opens_a_private_repository_and_stays_with_the_hub(hub, monkeypatch):
    path = hub.publish(REPO, FILE, CONTENT)
    hub.tokens[REPO] = 'hf_secret'
    message = refusal(path)
    assert f'no repository {REPO}, or it is private' in message
    assert 'HF_TOKEN' in message
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    assert len(load(path)) == 5000
    assert hub.asked[-1]['authorization'] == 'Bearer hf_secret'
    assert 'authorization' not in hub.fetched[-1]


def test_a_wrong_token_is_named(hub, monkeypatch):
    path = hub.publish(REPO, FILE, CONTENT)
    monkeypatch.setenv('HF_TOKEN', 'hf_wrong')
    message = refusal(path)
    assert f'{hub.endpoint} refuses your token' in message
    assert 'Invalid credentials in Authorization header' in message


def test_a_gated_repository_says_where_to_ask(hub):
    path = hub.publish(REPO, FILE, CONTENT)
    hub.gated.add(REPO)
    assert f'ask for it at {hub.endpoint}/{REPO}' in refusal(path)


@pytest.mark.parametrize(
    ('path', 'message'),
    [
        ('hf://no/such/file.pth', 'has no repository no/such'),
        (f'hf://{REPO}/other.pth', f"{REPO} has no file 'other.pth' at revision 'main'"),
        (f'hf://{REPO}/{FILE}@v2', f"{REPO} has no branch, tag or commit 'v2'"),
    ],
)
def test_what_the_hub_has_not_is_named(hub, path, message):
    hub.publish(REPO, FILE, CONTENT)
    found = refusal(path)
    assert found.startswith(f'cannot load {path}: ')
    assert message in found


def test_a_broken_download_goes_on_where_it_stopped(hub):
    path = hub.publish(REPO, FILE, CONTENT)
    hub.cut_after = [4500, 3000]
    assert torch.equal(load(path), torch.arange(5000.0))
    assert [headers.get('range') for headers in hub.fetched] == [
        None,
        'bytes=4000-',
        'bytes=7000-',
    ]


def test_a_download_that_never_ends_leaves_nothing_in_the_cache(hub, hub_cache):
    path = hub.publish(REPO, FILE, CONTENT)
    hub.cut_after, hub.always_cut = [4500, 0], True
    assert 'the download failed, try again' in refusal(path)
    assert not any((hub_cache / 'models--someone--atc_tiny' / 'snapshots').rglob('*.pth'))
    hub.cut_after = []
    assert len(load(path)) == 5000


def test_a_file_shorter_than_announced_is_refused(hub, monkeypatch):
    path = hub.publish(REPO, FILE, CONTENT)
    headers = dict(X_Linked_Size=str(len(CONTENT) + 1))
    answer = hub._servers[0].RequestHandlerClass.answer
    monkeypatch.setattr(
        hub._servers[0].RequestHandlerClass,
        'answer',
        lambda self, status, **given: answer(self, status, **{**given, **headers}),
    )
    assert f'should be of size {len(CONTENT) + 1} but has size {len(CONTENT)}' in refusal(path)


def test_offline_uses_the_cache(hub, monkeypatch):
    path = hub.publish(REPO, FILE, CONTENT)
    load(path)
    asked = len(hub.asked)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    assert len(load(path)) == 5000
    assert len(hub.asked) == asked


def test_offline_without_the_file_says_so(hub, hub_cache, monkeypatch):
    path = hub.publish(REPO, FILE, CONTENT)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    message = refusal(path)
    assert f'HF_HUB_OFFLINE is set and the file is not in the cache {hub_cache}' in message
    assert not hub.asked


def test_without_a_connection_the_cache_serves_or_the_hub_is_named(hub, monkeypatch):
    path = hub.publish(REPO, FILE, CONTENT)
    load(path)
    gone = HubServer()
    gone.close()
    use_endpoint(monkeypatch, gone.endpoint)
    assert len(load(path)) == 5000
    assert f'{gone.endpoint} cannot be reached' in refusal(f'hf://{REPO}/other.pth')


def test_a_hub_without_an_address_is_asked_once(hub_cache, monkeypatch):
    """huggingface_hub would try six times in half a minute."""
    for name in ('http_proxy', 'https_proxy', 'all_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    waited = []
    monkeypatch.setattr('time.sleep', waited.append)
    use_endpoint(monkeypatch, 'http://hub.invalid')
    assert 'http://hub.invalid cannot be reached' in refusal(f'hf://{REPO}/{FILE}')
    assert not waited


@pytest.mark.parametrize('number', [errno.EACCES, errno.EROFS])
def test_a_cache_that_cannot_be_written_is_named(hub, hub_cache, monkeypatch, number):
    path = hub.publish(REPO, FILE, CONTENT)

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number), str(hub_cache))

    monkeypatch.setattr('mmdet_atc.checkpoints.hub.hf_hub_download', refuse)
    assert refusal(path).endswith(f'{hub_cache} cannot be written: HF_HOME names another folder')


def test_a_pinned_digest_is_checked(hub):
    path = hub.publish(REPO, FILE, CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert len(load(f'{path}#sha256={digest}')) == 5000
    wrong = '0' * 64
    message = refusal(f'{path}@main#sha256={wrong}', CheckpointError)
    assert f'sha256 {digest}, expected {wrong}' in message
    assert f'#sha256={digest}' in message


def test_a_file_damaged_in_the_cache_comes_back_after_the_advice(hub, hub_cache):
    path = hub.publish(REPO, FILE, CONTENT)
    pinned = f'{path}#sha256={hashlib.sha256(CONTENT).hexdigest()}'
    load(pinned)
    (blob,) = (hub_cache / 'models--someone--atc_tiny' / 'blobs').iterdir()
    blob.write_bytes(b'damaged')
    message = refusal(pinned, CheckpointError)
    assert f'Delete {blob} to download it again' in message
    blob.unlink()
    assert len(load(pinned)) == 5000


def test_published_digests_are_checked_unless_another_is_pinned(hub):
    name = 'joakimbh/atc_tiny-coco17-average/atc_tiny-coco17-05-average.pth'
    org, repo, filename = name.split('/')
    path = hub.publish(f'{org}/{repo}', filename, CONTENT)
    assert f'expected {PUBLISHED_SHA256[name]}' in refusal(path, CheckpointError)
    assert len(load(f'{path}#sha256={hashlib.sha256(CONTENT).hexdigest()}')) == 5000


def test_published_digests_are_of_released_files():
    released = {cell.checkpoint({}, 'hf://joakimbh') for cell in all_cells(regimes=['fine-tuned'])}
    for name, digest in PUBLISHED_SHA256.items():
        assert HubFile.parse(f'hf://{name}#sha256={digest}').sha256 == digest
        # Classifiers are not in Table 3.
        assert f'hf://{name}' in released or '-coco17' not in name
    assert len(set(PUBLISHED_SHA256.values())) == len(PUBLISHED_SHA256)


def test_a_refused_class_is_named_with_a_way_out(hub):
    content = packed(dict(state_dict={}, args=SimpleNamespace(lr=1)))
    message = refusal(hub.publish(REPO, FILE, content), CheckpointError)
    assert f'hf://{REPO}/{FILE}: the checkpoint holds types.SimpleNamespace' in message
    assert 'write the weights alone' in message


def test_code_in_a_file_of_the_hub_does_not_run(hub, tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'owned'),)

    path = hub.publish(REPO, FILE, packed(dict(state_dict=Malicious())))
    assert f'{path}: the checkpoint holds' in refusal(path, CheckpointError)
    assert not (tmp_path / 'owned').exists()


@pytest.mark.parametrize('content', [b'<html>a proxy says hello</html>', CONTENT[:3000], b''])
def test_a_file_that_is_no_checkpoint_is_refused(hub, content):
    path = hub.publish(REPO, FILE, content)
    assert 'no complete checkpoint' in refusal(path, CheckpointError)


@pytest.mark.parametrize(
    'path',
    [
        'hf://atc.pth',
        'hf://someone/atc.pth',
        'hf://someone/atc_tiny/',
        'hf://someone/atc_tiny/atc.pth@',
        'hf://someone/atc_tiny/atc.pth#sha256=12',
        'hf://someone/atc_tiny/atc.pth#md5=' + '0' * 64,
    ],
)
def test_malformed_paths_are_refused(path):
    message = refusal(path, CheckpointError)
    assert 'must be hf://ORG/REPO/FILE[@REVISION][#sha256=DIGEST]' in message
    assert path in message


def test_init_cfg_takes_it(hub):
    small = dict(embed_dim=48, num_heads=3, deform_num_heads=3, depth=4, conv_inplane=8)
    groups = dict(interaction_indexes=[[0, 3]])
    source = ViTAdapter(**small, **groups)
    state = {k: v for k, v in source.state_dict().items() if k.startswith(('blocks', 'p'))}
    path = hub.publish(REPO, FILE, packed(dict(model=state)))
    model = ViTAdapter(**small, **groups, init_cfg=dict(type='Pretrained', checkpoint=path))
    model.init_weights()
    assert torch.equal(model.blocks[3].mlp.fc2.weight, source.blocks[3].mlp.fc2.weight)
