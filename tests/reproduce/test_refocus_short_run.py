import json

import pytest
from matplotlib.figure import Figure

from gmconv_mmdet.reproduce.refocus_picture import refocus_figure
from gmconv_mmdet.reproduce.refocus_short_run import curves, markdown, refocus_run


@pytest.fixture
def measured(repo):
    return json.loads((repo / 'docs' / 'refconv.json').read_text())


def test_docs_hold_what_was_measured(repo, measured):
    assert markdown(measured) in (repo / 'docs' / 'refconv.md').read_text()
    assert isinstance(refocus_figure(measured), Figure)
    plain, continued, *refocused = measured['runs'].values()
    assert plain['iterations'] == continued['iterations'] and refocused
    for run in refocused:
        assert run['iterations'] == continued['iterations']
        assert run['folded']['accuracy'] == pytest.approx(run['accuracy'], abs=0.05)
        assert run['folded']['parameters'] == plain['parameters']


def test_curves_of_an_interrupted_run(tmp_path):
    for name, lines in (('1', [dict(loss=2., step=10), dict(loss=1., step=20)]),
                        ('2', [dict(loss=1.5, step=20), {'accuracy/top1': 30., 'step': 1}])):
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    assert curves(tmp_path) == dict(losses=[[10, 2.], [20, 1.5]], accuracies=[[1, 30.]])


@pytest.mark.slow
def test_trains_refocuses_and_folds(tmp_path, small_cifar):
    pytest.importorskip('mmpretrain')
    options = dict(data=small_cifar, depth=8, epochs=1, every=20, val_every=10, batch=16, seed=0,
                   threads=1, inits=['paper'])
    result = refocus_run(tmp_path / 'runs', **options)
    assert list(result['runs']) == ['plain', 'plain, trained on', 'RefConv, init paper']
    assert [run['iterations'] for run in result['runs'].values()] == [4, 4, 4]
    run = result['runs']['RefConv, init paper']
    assert run['folded']['accuracy'] == run['accuracy'] and run['folded']['decides_otherwise'] == 0
    assert run['folded']['parameters'] == result['runs']['plain']['parameters']
    assert len(run['accuracies']) == 1
