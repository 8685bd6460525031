"""ONNX files beside the networks they were made from, run by onnxruntime."""
import json
from unittest import mock

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from gmconv_mmdet import GMConv2d, GMResNet, convert_gmconv, fold_gmconv
from gmconv_mmdet.deploy.onnx import export_onnx, onnx_difference
from gmconv_mmdet.deploy.onnx_metadata import image_metadata, level_names
from gmconv_mmdet.layers import gmconv

from ..networks import difference, images, trained
from ..processes import run_tool
from .small_detectors import write_detector

SHAPES = [(batch, height, width) for batch in (1, 3) for height, width in ((64, 96), (97, 75))]


def constants(model):
    """Values of the graph's initialisers by name."""
    return {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_columns_equal_the_loop(data):
    draw = data.draw
    groups = draw(st.integers(1, 3))
    padding = draw(st.sampled_from(['same', 'valid', 2, (1, 0)]))
    conv = GMConv2d(
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        draw(st.tuples(st.integers(1, 4), st.integers(2, 5))),
        stride=1 if padding == 'same' else draw(st.integers(1, 2)),
        padding=padding,
        dilation=draw(st.integers(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(['zeros', 'reflect', 'circular'])),
        dynamic=True,
        sigma_pattern=draw(st.sampled_from(['sigma', 'sigma_pair', 'sigma_ratio'])),
        dtype=torch.float64)
    trained(conv)
    x = torch.randn(draw(st.integers(0, 3)), conv.in_channels, 10, 11, dtype=torch.float64)
    with mock.patch.object(gmconv, 'is_recorded', return_value=True):
        columns = conv(x)
    torch.testing.assert_close(columns, conv(x), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize('stem', ['dynamic', 'static'])
def test_backbone_at_two_sizes_and_two_batches(tmp_path, stem):
    model = trained(GMResNet(18, base_channels=8, gm_stem=stem))
    path = tmp_path / 'backbone.onnx'
    opset = export_onnx(model, path, names=['c2', 'c3', 'c4', 'c5'])
    assert opset >= (18 if hasattr(torch, 'uint16') else 13)
    differences = onnx_difference(path, model, SHAPES)
    assert set(differences) == set(SHAPES) and max(differences.values()) < 1e-4
    written = onnx.load(path)
    onnx.checker.check_model(written)
    assert [output.name for output in written.graph.output] == ['c2', 'c3', 'c4', 'c5']
    sides = [dim.dim_param for dim in written.graph.input[0].type.tensor_type.shape.dim]
    assert sides[0] and not sides[1] and sides[2] and sides[3]
    convs = [node for node in written.graph.node if node.op_type == 'Conv']
    values = constants(written)
    assert len(convs) == 20
    assert all(node.input[1] in values for node in convs)  # plain weights, no mask in the graph
    assert any(node.op_type == 'Exp' for node in written.graph.node) == (stem == 'dynamic')
    # A folded weight in the file is the product (times the batch norm where the exporter fuses it).
    conv = model.layer2[0].conv2
    product = (conv.weight * conv.mask()).detach().numpy()
    ratios = [value / product for value in values.values() if value.shape == product.shape
              and (value.reshape(16, -1).std(axis=1) > 0).all()]
    assert any(np.allclose(ratio, ratio[:, :1, :1, :1], rtol=1e-2) for ratio in ratios)


@pytest.mark.slow
def test_command_line_exports_backbone_and_neck(tmp_path):
    config, checkpoint, _ = write_detector(tmp_path)
    out = tmp_path / 'detector.onnx'
    command = 'deployment/export_onnx.py', config, checkpoint, out, '--size', 128, 160
    done = run_tool(*command)
    if 'needs torch 2.6 or newer' in done.stderr:
        assert done.returncode == 1 and not out.exists()
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert 'batch 3, 65x81: onnxruntime differs by' in done.stdout
    assert f'written: {out}' in done.stdout
    file = onnx.load(out)
    assert [output.name for output in file.graph.output] == ['P2', 'P3', 'P4', 'P5', 'P6']
    metadata = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    assert metadata['classes'] == ['person'] and metadata['channel_order'] == 'RGB'
    assert metadata['mean'] == [123.675, 116.28, 103.53] and metadata['std'] == [58.395, 57.12, 57.375]
    assert metadata['pad_size_divisor'] == 32
    if hasattr(torch, 'uint16'):
        assert {'backbone.layer1.0.conv1.weight', 'neck.fpn_convs.0.conv.weight'} <= set(constants(file))
    before = out.read_bytes()
    again = run_tool(*command)
    assert again.returncode == 1 and '--force' in again.stderr and out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith('.')] == []


@pytest.mark.slow
def test_any_network_from_convert_gmconv(tmp_path):
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 5, padding=2, groups=4), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 2))
    for stem in ('static', 'dynamic'):
        network = trained(convert_gmconv(plain, stem=stem))
        export_onnx(network, tmp_path / 'network.onnx', names=['logits'], metadata=dict(classes='[]'))
        assert max(onnx_difference(tmp_path / 'network.onnx', network, SHAPES).values()) < 1e-4
        file = onnx.load(tmp_path / 'network.onnx')
        assert [output.name for output in file.graph.output] == ['logits']
        assert [(entry.key, entry.value) for entry in file.metadata_props] == [('classes', '[]')]


def test_levels_are_named_by_stride():
    network = GMResNet(18, base_channels=8, out_indices=(0, 2, 3), strides=(1, 2, 2, 1)).eval()
    assert level_names(network, (65, 96), 'C') == ['C2', 'C4', 'C4_2']
    assert level_names(torch.nn.MaxPool2d(2), (64, 64), 'P') == ['P1']


@pytest.mark.parametrize('meta', [{}, dict(dataset_meta=dict(CLASSES=('a', 'b')))])
def test_metadata_of_raw_pixels(meta):
    cfg = Config(dict(model=dict(data_preprocessor=dict(type='DetDataPreprocessor'))))
    metadata = {key: json.loads(value) for key, value in image_metadata(cfg, meta).items()}
    assert metadata.pop('gmconv_mmdet') and metadata.pop('classes', None) == (['a', 'b'] if meta else None)
    assert metadata == dict(mean=[0, 0, 0], std=[1, 1, 1], channel_order='BGR', pad_size_divisor=1,
                            pad_value=0)


@pytest.mark.slow
def test_trace_of_a_dynamic_stem_serves_every_batch():
    model = trained(GMResNet(18, base_channels=8))
    with torch.no_grad():
        traced = torch.jit.trace(fold_gmconv(model), images(2))
        for batch in (1, 3):
            x = images(batch, 80, 64)
            assert difference(traced(x), model(x)) < 1e-5
