"""The clustering operator in C++ for onnxruntime: labels of the specification."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mmdet_atc.clustering import agglomerative_clustering, naive
from mmdet_atc.clustering.forms import plain
from mmdet_atc.onnx_ops import session_options

from ..clustering.families import FAMILIES, LINKAGES, features_of


@pytest.fixture(scope='session')
def library(built, made_once):
    """The operator's library; its headers are looked for as a user's are."""

    def make(folder):
        process = built('onnxruntime', folder)
        if 'no onnxruntime_cxx_api.h' in process.stderr and 'ONNXRUNTIME_INCLUDE' not in os.environ:
            pytest.skip('no headers of onnxruntime: $ONNXRUNTIME_INCLUDE names them')
        assert process.returncode == 0, process.stderr

    return made_once('onnxruntime', make) / 'libmmdet_atc_onnxruntime.so'


def one_operator(linkage, dims=3):
    """A file of the operator alone."""
    node = helper.make_node(
        'AgglomerativeClustering', ['x', 'k'], ['labels'], domain='mmdet_atc', linkage=linkage
    )
    inputs = ('x', TensorProto.FLOAT, [None] * dims), ('k', TensorProto.INT64, [None])
    graph = helper.make_graph(
        [node],
        'clustering',
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info('labels', TensorProto.INT64, [None, None])],
    )
    opsets = [helper.make_opsetid('', 18), helper.make_opsetid('mmdet_atc', 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def session(library, file, threads=1):
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library))
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(file, options)


@pytest.fixture(scope='module')
def cluster(library):
    """The operator as a function, of each linkage with three threads."""
    sessions = {name: session(library, one_operator(name), 3) for name in LINKAGES}

    def run(features, num_clusters, linkage):
        given = dict(x=features.numpy(), k=np.array([num_clusters]))
        return torch.from_numpy(sessions[linkage].run(None, given)[0])

    return run


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('family', FAMILIES)
@settings(max_examples=12, deadline=None)
@given(data=st.data(), n=st.integers(1, 20), c=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_labels_equal_the_specification_ties_included(cluster, linkage, family, data, n, c, seed):
    num_clusters = data.draw(st.integers(1, n))
    features = features_of(family, seed, n, c, torch.float32, data.draw(st.integers(1, 3)))
    expected = naive.cluster_features(features, num_clusters, linkage)
    assert torch.equal(cluster(features, num_clusters, linkage), expected)


@pytest.mark.parametrize('linkage', LINKAGES)
@pytest.mark.parametrize('family', FAMILIES)
def test_larger_images_are_those_of_python(cluster, linkage, family):
    features = features_of(family, 7, 300, 24, torch.float32, batch=2)
    for num_clusters in (1, 150, 300):
        expected = agglomerative_clustering(features, num_clusters, linkage)
        assert torch.equal(cluster(features, num_clusters, linkage), expected)


@pytest.mark.parametrize('linkage', LINKAGES)
def test_an_image_of_full_size_is_that_of_plain_torch(cluster, linkage):
    features = features_of(FAMILIES[-1], 3, 4200, 64, torch.float32)
    expected = plain.cluster_features(features, 2100, linkage)
    assert torch.equal(cluster(features, 2100, linkage), expected)


def test_a_detector_finds_what_it_finds_with_the_operator_in_python(library, dynamic_file):
    file = dynamic_file('onnx')
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 128, 160), np.uint8)
    given = dict(pixels=pixels, sizes=np.array([[128, 160], [100, 90]]))
    found = session(library, file, torch.get_num_threads()).run(None, given)
    expected = onnxruntime.InferenceSession(file, session_options()).run(None, given)
    assert len(found[0]) > 10
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


ALONE = """
import os, sys, threading
import numpy, onnxruntime

options = onnxruntime.SessionOptions()
options.register_custom_ops_library(sys.argv[1])
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[2], options)
counts, is_done = [], threading.Event()

def count():
    while not is_done.wait(0.001):
        counts.append(len(os.listdir('/proc/self/task')))

counting = threading.Thread(target=count)
counting.start()
before = len(os.listdir('/proc/self/task'))
x = numpy.random.default_rng(0).normal(size=(2, 2000, 32)).astype('f')
for given in (x, x[:1]):
    labels = session.run(None, dict(x=given, k=numpy.array([1000])))[0]
    assert labels.shape == given.shape[:2] and labels.max() == 999
is_done.set()
counting.join()
assert len(counts) > 10 and max(counts) == before, (counts, before)
assert 'libtorch' not in open('/proc/self/maps').read()
"""


def test_it_needs_no_torch_and_no_threads_but_the_sessions(library, tmp_path):
    file = tmp_path / 'clustering.onnx'
    file.write_bytes(one_operator('average'))
    subprocess.run([sys.executable, '-c', ALONE, library, file], cwd=tmp_path, check=True)


def test_bad_input_is_one_error_that_names_it(library, cluster):
    features = torch.randn(3, 4, 5)
    broken = features.clone()
    broken[0, 1, 2], broken[2, 0, 0] = torch.nan, torch.finfo(torch.float32).max
    for x, num_clusters, message in (
        (features, 5, 'num_clusters must be in 1..4, got 5'),
        (features, 0, 'num_clusters must be in 1..4, got 0'),
        (broken, 2, 'image(s) [0, 2] of the batch hold NaN, Inf or numbers of 3.4e+38 and more'),
        (features[:, :, :0], 2, 'features must have channels, got (3, 4, 0)'),
        (torch.zeros(1, 32768, 1), 2, 'features must be of at most 32767 tokens, got 32768'),
    ):
        with pytest.raises(Exception, match='INVALID_ARGUMENT') as caught:
            cluster(x, num_clusters, 'average')
        assert str(caught.value).endswith(message)
        assert '\n' not in str(caught.value)
    for dims, x, numbers, message in (
        (2, features[0], [2], r'features must be \(B, N, C\), got 2 dims'),
        (3, features, [2, 2], 'num_clusters must be one number, got 2'),
    ):
        with pytest.raises(Exception, match=message):
            session(library, one_operator('single', dims)).run(
                None, dict(x=x.numpy(), k=np.array(numbers))
            )
    with pytest.raises(Exception, match='linkage must be single, complete or average, got ward'):
        session(library, one_operator('ward'))


def test_headers_that_are_missing_are_named(built, tmp_path):
    process = built('onnxruntime', tmp_path, '-DONNXRUNTIME_INCLUDE=/nowhere')
    assert process.returncode != 0
    message = ' '.join(process.stderr.split())
    assert 'no onnxruntime_cxx_api.h on the system or in -DONNXRUNTIME_INCLUDE' in message
    assert 'libonnxruntime-dev' in message
