import json
from pathlib import Path

import pytest

from gmconv_mmdet.reproduce.cifar_short_run import markdown, sigma_by_decay_alone, train

RESULTS = [dict(config='resnet20_cifar10-packed', epochs=4, accuracy=41.5, iterations=20,
                seconds=50., sigmas={}),
           dict(config='resnet20-sgmconv_cifar10-packed', epochs=4, accuracy=40.25, iterations=20,
                seconds=61., sigmas={'conv1': 4.87})]


def test_markdown():
    text = markdown(RESULTS)
    assert '| resnet20_cifar10-packed | 41.50 | 20 | 50 | 2.50 |' in text
    assert '| conv1 | 4.870 |' in text
    assert text.count('Sigmas of') == 1


def test_weight_decay_alone():
    # by hand: momentum 0.9, weight decay 1e-4, learning rate 0.1, 0.1, 0.01, 0.001 for 5 steps each
    sigma, momentum = 5., 0.
    for step in range(20):
        momentum = 0.9 * momentum + 1e-4 * sigma
        sigma -= [0.1, 0.1, 0.01, 0.001][step // 5] * momentum
    assert sigma_by_decay_alone(RESULTS[1]) == pytest.approx(sigma, abs=1e-5)


def test_docs_hold_what_was_measured(repo):
    results = json.loads((repo / 'docs' / 'cifar.json').read_text())
    assert markdown(results) in (repo / 'docs' / 'cifar.md').read_text()


@pytest.mark.slow
def test_trains_once(tmp_path, small_cifar):
    pytest.importorskip('mmpretrain')
    work_root = tmp_path / 'runs'
    options = dict(data=small_cifar, epochs=1, every=50, seed=0, threads=1)
    result = train('resnet20-sgmconv_cifar10-packed', work_root, **options)
    assert result['iterations'] == 1 and len(result['sigmas']) == 19
    assert 0 <= result['accuracy'] <= 100 and result['seconds'] > 0
    folder, = work_root.iterdir()
    logs = sorted(folder.glob('*/vis_data/scalars.json'))
    assert train('resnet20-sgmconv_cifar10-packed', work_root, **options) == result
    assert sorted(Path(folder).glob('*/vis_data/scalars.json')) == logs
    with pytest.raises(RuntimeError, match='failed with'):
        train('resnet20-nonsense', work_root, **options)
