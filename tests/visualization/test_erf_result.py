"""Saving, resuming and refusing, with small measurements through the real files."""
import numpy as np
import pytest

from gmconv_mmdet.visualization import erf_result
from gmconv_mmdet.visualization.erf_result import Contribution, ErfResult, measure
from gmconv_mmdet.visualization.image_files import UnusableImage

SETTINGS = dict(mode='network', label='net', weights='random', outputs=['C5'], size=8)
ITEMS = {f'{i}.jpg': i for i in range(6)}


def field(i):
    return np.random.default_rng(i).random((8, 8))


def contribute(i):
    return [Contribution('C5', field(i), {}), Contribution('C4', 2 * field(i), dict(number=i))]


def same(a, b):
    return (a.settings == b.settings and a.rows == b.rows and a.done == b.done
            and a.skipped == b.skipped and a.sums.keys() == b.sums.keys()
            and all(np.array_equal(a.sums[key], b.sums[key]) for key in a.sums))


def test_sums_counts_and_means(tmp_path):
    result = measure(tmp_path / 'a.npz', SETTINGS, ITEMS, contribute)
    assert result.count('C5') == 6 and result.done == list(ITEMS)
    assert np.allclose(result.mean('C5'), np.mean([field(i) for i in range(6)], 0))
    assert result.rows[3] == dict(key='C4', image='1.jpg', number=1)
    assert same(ErfResult.load(tmp_path / 'a.npz'), result)
    assert list(tmp_path.iterdir()) == [tmp_path / 'a.npz']


def test_an_interrupted_measurement_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(erf_result, 'SAVE_EVERY', -1)
    path, calls = tmp_path / 'new' / 'a.npz', []

    def interrupted(i):
        calls.append(i)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return contribute(i)

    with pytest.raises(KeyboardInterrupt):
        measure(path, SETTINGS, ITEMS, interrupted)
    assert ErfResult.load(path).done == ['0.jpg', '1.jpg', '2.jpg']
    resumed = measure(path, SETTINGS, ITEMS, interrupted)
    assert calls == [0, 1, 2, 3, 3, 4, 5]
    assert same(resumed, measure(tmp_path / 'b.npz', SETTINGS, ITEMS, contribute))
    calls.clear()
    measure(path, SETTINGS, ITEMS, interrupted)
    assert calls == []  # finished: nothing is measured again


def test_unusable_images_are_named_and_tried_again(tmp_path, capsys):
    def broken(i):
        if i == 2:
            raise UnusableImage('2.jpg: no image')
        return contribute(i)

    result = measure(tmp_path / 'a.npz', SETTINGS, ITEMS, broken)
    assert result.count('C5') == 5 and result.skipped == {'2.jpg': '2.jpg: no image'}
    assert 'skipped 2.jpg: no image' in capsys.readouterr().err
    result = measure(tmp_path / 'a.npz', SETTINGS, ITEMS, contribute)
    assert result.count('C5') == 6 and result.skipped == {}


@pytest.mark.parametrize('content', [b'', b'no archive', 'arrays', 'settings'])
def test_other_measurements_and_foreign_files_are_refused_and_left(tmp_path, content):
    path, message = tmp_path / 'mine.npz', 'mine.npz holds no effective receptive fields of ours'
    if content == 'arrays':
        np.savez(path, x=np.ones(3))
    elif content == 'settings':
        measure(path, dict(SETTINGS, size=16), ITEMS, contribute)
        message = r'other settings: size 16, now 8.*--out'
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        measure(path, SETTINGS, ITEMS, contribute)
    assert path.read_bytes() == before
