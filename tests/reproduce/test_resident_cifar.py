import json

import cv2
import numpy as np
import pytest
import torch

from gmconv_mmdet.reproduce.resident_cifar import OutOfTime, load_images, random_crops, train
from gmconv_mmdet.reproduce.resident_cifar_table import read_results, table


@pytest.fixture
def packed(tmp_path):
    """A folder with 40 images to train on and 20 to test on, noise of ten brightnesses."""
    folder = tmp_path / 'packed'
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in (('train', 40), ('test', 20)):
        labels = np.arange(count) % 10
        files = [cv2.imencode('.jpg', random.integers(0, 25, (32, 32, 3), np.uint8)
                              + np.uint8(25 * label))[1] for label in labels]
        np.savez(folder / f'cifar10_{split}.npz', jpeg=np.concatenate(files), labels=labels,
                 offsets=np.cumsum([0, *map(len, files)]), classes=[str(i) for i in range(10)])
    return folder


def test_images_are_rgb(tmp_path):
    blue = np.zeros((8, 8, 3), np.uint8)
    blue[..., 0] = 250  # OpenCV's order: blue first
    jpeg = cv2.imencode('.jpg', blue)[1]
    np.savez(tmp_path / 'a.npz', jpeg=np.concatenate([jpeg] * 3), labels=[0, 1, 2],
             offsets=len(jpeg) * np.arange(4), classes=['a', 'b', 'c'])
    images, labels = load_images(tmp_path / 'a.npz', 2, 'cpu')
    assert images.shape == (2, 3, 8, 8) and images.dtype == torch.uint8
    assert labels.tolist() == [0, 2] and images[0, 2].min() > 240 and images[0, 0].max() < 10


def test_crops_are_windows_of_the_images():
    padded = torch.arange(2 * 3 * 9 * 10).view(2, 3, 9, 10)
    index = torch.tensor([1, 0] * 40)
    crops = random_crops(padded, index, 6, torch.Generator().manual_seed(0))
    found = set()
    for crop, image in zip(crops, index.tolist()):
        windows = {(top, left, flip): window.flip(2) if flip else window
                   for top in range(4) for left in range(5) for flip in (False, True)
                   for window in [padded[image, :, top:top + 6, left:left + 6]]}
        match, = [where for where, window in windows.items() if torch.equal(window, crop)]
        found.add(match)
    assert len(found) > 25  # of forty


@pytest.mark.slow
def test_interrupted_and_whole_runs_agree(packed, tmp_path):
    options = dict(seed=3, device='cpu', epochs=11)
    whole = train('resnet20-gmconv', packed, tmp_path / 'a.pth', **options)
    assert len(whole['losses']) == 11 and len(whole['sigmas']) == 19
    assert len(whole['sigmas']['conv1']) == 2 and whole['iterations_per_epoch'] == 1
    checkpoint = tmp_path / 'b.pth'

    def stop(text):
        if 'epoch 11 of 11' in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train('resnet20-gmconv', packed, checkpoint, on_epoch=stop, **options)
    with pytest.raises(OutOfTime, match='10 of 11 epochs'):
        train('resnet20-gmconv', packed, checkpoint, until=0, **options)
    with pytest.raises(ValueError, match='is of another run'):
        train('resnet20', packed, checkpoint, **options)
    resumed = train('resnet20-gmconv', packed, checkpoint, **options)
    for key in ('losses', 'sigmas', 'accuracy'):
        assert resumed[key] == whole[key]
    assert not checkpoint.exists()


@pytest.mark.slow
def test_learns_ten_brightnesses(packed, tmp_path):
    result = train('resnet20-sgmconv', packed, tmp_path / 'a.pth', device='cpu', epochs=16)
    assert result['losses'][-1] < 0.7 * result['losses'][0]


def result(config, accuracy, seed=0, **more):
    return dict(dict(config=config, accuracy=accuracy, seed=seed, epochs=160, every=1, half=False,
                     seconds=100., sigmas={}), **more)


def test_table(tmp_path):
    runs = [result('resnet20_cifar10', 90.), result('resnet20_cifar10', 91., seed=1),
            result('resnet20-gmconv_cifar10', 92., sigmas=dict(conv1=[4., 5.], layer1=3.)),
            result('resnet18_cifar10', 93., half=True)]
    single, stage = tmp_path / 'a.json', tmp_path / 'cifar.json'
    single.write_text(json.dumps(runs[0]))
    stage.write_text(json.dumps(dict(parts=dict(
        a=dict(done=True, result=dict(runs=runs[1:])), b=dict(done=False, error='none')))))
    assert read_results([single, stage]) == runs
    text = table(runs)
    assert '| ResNet-20 | StdConv | 91.58 | 90.50 ± 0.71 | 0, 1 | 160 | 100 |' in text
    assert '| ResNet-20 | S-GMConv | 91.85 |  |  |  |  |' in text
    assert '| ResNet-18 | StdConv | 95.14 |  |  |  |  |' in text
    assert '- resnet18_cifar10, seed 0: 160 epochs, 1 image in 1, fp16: 93.00%' in text
    assert '| conv1 | 4.000, 5.000 |' in text and '| layer1 | 3.000 |' in text


def test_docs_hold_what_was_measured(repo):
    results = read_results(sorted((repo / 'docs' / 'gpu').glob('cifar*.json')))
    assert table(results) in (repo / 'docs' / 'cifar.md').read_text()
