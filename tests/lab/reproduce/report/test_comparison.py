import json
import re

import pytest

from gmconv_mmdet.files import write_json
from gmconv_mmdet.lab.reproduce.history import curves
from gmconv_mmdet.lab.reproduce.paper import COCO_METRICS
from gmconv_mmdet.lab.reproduce.report.comparison import (
    mask_story,
    read_results,
    summary,
    write_comparison,
)
from gmconv_mmdet.lab.reproduce.run_folder import RunFolderError


def result_of(variant, seed, ap, decay=-0.5, gradient=-0.3, sigma=4.2, split=True):
    """A finished run's result, with one mask that began at 5."""
    values = {'sigma/conv1': [5.0, sigma]}
    if split:
        values.update({'sigma_by_decay/conv1': [0.0, decay],
                       'sigma_by_gradient/conv1': [0.0, gradient]})
    is_gm = variant != 'plain'
    masks = [dict(layer='conv1', kernel=[3, 3], dynamic=False, sigma=[sigma] * 2)]
    return dict(
        schema=1, row=variant, variant=variant, order=['plain', 'gm', 'sgm'].index(variant),
        seed=seed, baseline='plain',
        base_config='sgm.py' if variant == 'sgm' else 'my <config>.py',
        overrides=['a=1'] if variant == 'sgm' else [], shared_overrides=[], notes=[],
        metrics=dict({name: ap + i for i, name in enumerate(COCO_METRICS)}, APL=None),
        history=dict(epochs=[dict(epoch=1, mAP=ap / 2), dict(epoch=2, mAP=ap)],
                     loss=dict(steps=[1, 2], values=[2.0, 1.0]),
                     sigmas=dict(steps=[1, 2], values=values if is_gm else {})),
        masks=dict(initial=[], final=masks if is_gm else []), epochs=2, batch_size=8, threads=1,
        seconds=12.5, paired='3 of 4', config_sha256='c' * 64, checkpoint_sha256='d' * 64,
        code=['12' * 20], finished='2026', environment=dict(torch='2.13.0'),
        samples=[dict(image='/nowhere.jpg', width=64, height=48, truth=[[1, 2, 9, 9, 'a<b', 1.0]],
                      found=[[1, 2, 8, 9, 'a<b', 0.5]])])


@pytest.fixture
def results(tmp_path):
    """Plain with seeds 0, 1, 2, GM with 0, 2, 7, S-GM with 0."""
    for variant, seed, ap in (('plain', 0, 30.0), ('plain', 1, 90.0), ('plain', 2, 31.0),
                              ('gm', 0, 30.5), ('gm', 2, 32.5), ('gm', 7, 10.0), ('sgm', 0, 29.0)):
        write_json(tmp_path / f'{variant}-seed{seed}.json', result_of(variant, seed, ap))
    (tmp_path / 'other.json').write_text('{}')
    return tmp_path


def test_differences_are_taken_seed_by_seed(results):
    told = summary(read_results(results))
    gm, sgm = told['differences']
    # Seeds 0 and 2 are common: 0.5 and 1.5; sd 0.7071, t(0.975, 1) = 12.706.
    assert gm['metrics']['AP']['each'] == [0.5, 1.5] and gm['metrics']['AP']['mean'] == 1
    assert gm['metrics']['AP']['high'] == pytest.approx(1 + 12.706 * 0.5, abs=1e-3)
    assert gm['metrics']['APL'] is None and gm['seeds_needed'] > 2
    assert sgm['metrics']['AP']['low'] is None and sgm['seeds_needed'] is None
    assert [one['name'] for one in told['variants']] == ['plain', 'gm', 'sgm']


def test_report_in_three_forms(results, tmp_path):
    paths = write_comparison(read_results(results), tmp_path / 'out')
    text, page = paths[0].read_text(), paths[2].read_text()
    assert '| gm | 2 | +1.00 [-5.35, +7.35] |' in text
    assert '| sgm | 1 | -1.00 (no interval) |' in text
    assert '| plain | 0 1 2 | 50.33 ± 34.36 |' in text
    assert json.loads(paths[1].read_text())['baseline'] == 'plain'
    assert text.startswith('# my <config>.py: does it help?'), 'the compared config, not a variant\'s'
    assert 'my &lt;config&gt;.py' in page and '<config>' not in page
    assert 'prefers-color-scheme: dark' in page
    # Self-contained: nothing is fetched, no script runs.
    assert not re.search(r'(src|href)="(?!data:)|<script|<link|@import|url\(', page)
    for title in ('Mean and spread', 'Learning curves', 'Masks at the start', 'Detections side'):
        assert title in page


def test_rows_of_a_table_stand_beside_the_papers_figures_if_on_its_data(tmp_path):
    """Each against its own baseline; ``--rows`` and ``--table`` choose."""
    names = ('faster-rcnn_r50', 'faster-rcnn_r50-dcn-l2-l4', 'faster-rcnn_r50-gm-stem-l1-dcn-l2-l4',
             'mine')
    for order, name in enumerate(names):
        baseline = names[1] if order == 2 else names[0]
        write_json(tmp_path / f'{name}-seed0.json', dict(
            result_of('gm', 0, 30.0 + order), row=name, variant=name, order=order,
            baseline=baseline, base_config=f'{name}_fpn_1x_coco.py', val_images=5000))
    text = write_comparison(read_results(tmp_path, table='V'), tmp_path / 'out')[0].read_text()
    assert text.startswith('# faster-rcnn_r50-dcn-l2-l4_fpn_1x_coco.py: does it help?')
    assert '| printed in the paper, not measured here |  | 41.5 |  |  | 24.4 | 45.4 |' in text
    assert f'| {names[2]} against {names[1]} | 1 | +1.00 (no interval) |' in text
    assert '| printed in the paper, not measured here |  | +0.4 |' in text and 'mine' not in text
    some = read_results(tmp_path, ['r50-gm-stem-l1-dcn-l2-l4'])
    assert [one['variant'] for one in some] == list(names[1:3])
    with pytest.raises(RunFolderError, match='no result of r51'):
        read_results(tmp_path, ['r51'])
    for path in tmp_path.glob('*.json'):
        write_json(path, dict(json.loads(path.read_text()), val_images=128))
    assert all(not one['paper'] for one in summary(read_results(tmp_path))['variants'])


def test_folders_that_hold_no_comparison_or_two(results, tmp_path):
    with pytest.raises(RunFolderError, match='no result of a comparison'):
        read_results(tmp_path / 'none')
    write_json(results / 'x-seed0.json', dict(result_of('gm', 0, 1.0), baseline='other'))
    with pytest.raises(RunFolderError, match='runs of gm were compared with several baselines'):
        summary(read_results(results))


def test_drift_by_decay_is_told_from_drift_by_gradient():
    learned = mask_story(result_of('gm', 0, 1.0))
    assert learned['numbers'] == [dict(layer='conv1', number='sigma', start=5.0, end=4.2,
                                       by_decay=-0.5, by_gradient=-0.3)]
    assert learned['verdict'] == ('the largest change by gradients is 6.0% of the start, by weight '
                                  'decay 10.0%')
    nothing = mask_story(result_of('gm', 0, 1.0, decay=-0.8, gradient=-0.001, sigma=4.199))
    assert nothing['verdict'].startswith('LEARNED NOTHING about its masks')
    unknown = mask_story(result_of('gm', 0, 1.0, split=False))
    assert 'not told apart' in unknown['verdict'] and unknown['numbers'][0]['by_decay'] is None
    flat = mask_story(result_of('gm', 0, 1.0, sigma=60.0))
    assert flat['flat'] == ['conv1'] and '1 of 1 masks are flat' in flat['verdict']


def test_curves_count_what_was_repeated_after_a_kill_once(tmp_path):
    for name, lines in (('1', ['{"loss": 3.0, "step": 1}', '{"loss": 2.0, "step": 2}',
                               '{"sigma/a": 5.0, "step": 2}', '{"loss": 1.9, "st']),
                        ('2', ['{"loss": 2.5, "step": 2}', '{"sigma/a": 4.9, "step": 2}',
                               '{"sigma_gradient_norm/a": 1.0, "step": 2}',
                               '{"coco/bbox_mAP": 0.123, "coco/bbox_mAP_50": 0.2, "step": 1}'])):
        (tmp_path / name / 'vis_data').mkdir(parents=True)
        (tmp_path / name / 'vis_data' / 'scalars.json').write_text('\n'.join(lines))
    past = curves(tmp_path)
    assert past['loss'] == dict(steps=[1, 2], values=[3.0, 2.5])
    assert past['sigmas'] == dict(steps=[2], values={'sigma/a': [4.9]})
    assert past['epochs'] == [dict(epoch=1, mAP=12.3, mAP_50=20.0)]
