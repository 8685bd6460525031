import cv2
import numpy as np
import pytest

pytest.importorskip('mmpretrain')
from gmconv_mmdet.datasets.packed_cifar import PackedCIFAR  # noqa: E402


def pack(path, images, labels, **extra):
    files = [cv2.imencode('.jpg', image)[1].reshape(-1) for image in images]
    offsets = np.cumsum([0] + [len(file) for file in files])
    np.savez(path, **dict(jpeg=np.concatenate(files), offsets=offsets, labels=np.array(labels),
                          classes=np.array(['cat', 'dog']), **extra))


def test_images_are_rgb_and_in_order(tmp_path):
    blue = np.zeros((32, 32, 3), np.uint8)
    blue[..., 0] = 255  # OpenCV's order is BGR
    pack(tmp_path / 'train.npz', [blue, 255 - blue], [1, 0])
    data = PackedCIFAR(ann_file='train.npz', data_root=str(tmp_path))
    assert len(data) == 2 and data.CLASSES == ('cat', 'dog')
    first, second = (data.get_data_info(i) for i in range(2))
    assert first['img'].shape == (32, 32, 3) and first['img'][0, 0].tolist() == [0, 0, 254]
    assert (first['gt_label'], second['gt_label']) == (1, 0)


def test_every(tmp_path):
    images = [np.full((32, 32, 3), 10 * i, np.uint8) for i in range(10)]
    pack(tmp_path / 'train.npz', images, range(10))
    data = PackedCIFAR(ann_file=str(tmp_path / 'train.npz'), every=3)
    kept = [data.get_data_info(i) for i in range(len(data))]
    assert [int(info['gt_label']) for info in kept] == [0, 3, 6, 9]
    assert [int(info['img'].mean().round()) for info in kept] == [0, 30, 60, 90]
    for bad in (0, 1.5):
        with pytest.raises(ValueError, match=f'every must be .*got {bad}'):
            PackedCIFAR(ann_file=str(tmp_path / 'train.npz'), every=bad)


def test_not_such_a_file(tmp_path):
    np.savez(tmp_path / 'other.npz', images=np.zeros(3))
    with pytest.raises(ValueError, match='has no jpeg, offsets, labels, classes'):
        PackedCIFAR(ann_file=str(tmp_path / 'other.npz'))
    with pytest.raises(FileNotFoundError):
        PackedCIFAR(ann_file=str(tmp_path / 'none.npz'))


def test_cifar10(shared_data):
    data = PackedCIFAR(ann_file='cifar10_test.npz', data_root=str(shared_data), every=100)
    assert len(data) == 100 and len(data.CLASSES) == 10
    labels = [int(data.get_data_info(i)['gt_label']) for i in range(100)]
    assert sorted(labels) == sorted(list(range(10)) * 10)
