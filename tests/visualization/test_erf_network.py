import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gmconv_mmdet.visualization.erf_network import measure_network
from gmconv_mmdet.visualization.measured_model import load_model

NET = """
model = dict(
    type='RetinaNet', backbone=dict(type='GMResNet', depth=18, base_channels=4),
    neck=dict(type='FPN', in_channels=[4, 8, 16, 32], out_channels=4, num_outs=4),
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[100, 110, 120],
                           std=[50., 60., 70.], bgr_to_rgb=True))
"""


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp('net') / 'net.py'
    path.write_text(NET)
    return load_model(str(path), label='net')


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        cv2.imwrite(str(tmp_path / f'{i}.png'), rng.integers(0, 255, (40 + i, 60, 3)))
    (tmp_path / '1b.png').write_bytes(b'')
    return sorted(tmp_path.glob('*.png'))


def test_average_of_single_gradients(model, images, tmp_path):
    """Against the definition, written out with the backbone alone."""
    result = measure_network(model, images, tmp_path, tmp_path / 'r.npz', ['C5', 'C3'], size=96)
    assert list(result.skipped) == ['1b.png'] and result.done == ['0.png', '1.png', '2.png']
    for index, name in ((3, 'C5'), (1, 'C3')):
        expected = np.zeros((96, 96))
        for i in range(3):
            pixels = cv2.resize(cv2.imread(str(tmp_path / f'{i}.png')), (96, 96),
                                interpolation=cv2.INTER_CUBIC)[..., ::-1].astype(np.float32)
            x = torch.tensor((pixels - np.float32([100, 110, 120])) / np.float32([50, 60, 70]))
            x = x.permute(2, 0, 1)[None].requires_grad_()
            y = model.network.backbone(x)[index]
            F.relu(y[:, :, y.shape[2] // 2, y.shape[3] // 2]).sum().backward()
            expected += F.relu(x.grad)[0].sum(0).double().numpy() / 3
        assert np.allclose(result.mean(name), expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_unknown_outputs(model, images, tmp_path):
    with pytest.raises(ValueError, match='net has no output C9, P7; it has C2, C3.*P5'):
        measure_network(model, images, tmp_path, tmp_path / 'r.npz', ['C5', 'C9', 'P7'], size=64)
    assert not (tmp_path / 'r.npz').exists()
