"""Changes of any network: what is proposed, how it is ranked."""
import numpy as np
import pytest
import torch.nn as nn

from gmconv_mmdet import advise_receptive_field, edit_layers
from gmconv_mmdet.lab.survey import build_network
from gmconv_mmdet.receptive_field.advice.advise import Scores, recommended, scores
from gmconv_mmdet.receptive_field.analyze import FieldSize, analyze
from gmconv_mmdet.receptive_field.field_table import advice_table


def build(name):
    return build_network(f'torchvision::{name}')


def by_name(advice):
    return {item.change.name: item for item in advice}


@pytest.mark.slow
def test_resnet18_at_32_pixels():
    model = build('resnet18')
    advice = advise_receptive_field(model, (32, 32))
    rows = by_name(advice)
    assert set(rows) == {'as-is', 'stem-kernel-3', 'stem-stride-1', 'small-image-stem',
                         'no-maxpool', 'no-stride-8', 'no-stride-16', 'no-stride-32'}
    assert advice[0].change.name == 'as-is' and len(advice[0].report.unproductive) == 3
    assert rows['small-image-stem'].report.unproductive == []
    assert rows['no-stride-32'].change.edits == {
        'layer4.0.conv1': dict(stride=1), 'layer4.0.downsample.0': dict(stride=1)}
    totals = [item.scores.total for item in advice[1:]]
    assert totals == sorted(totals) and recommended(advice) is advice[1]
    assert model.conv1.kernel_size == (7, 7)
    again = edit_layers(model, advice[1].change.edits)
    assert analyze(again, (32, 32)).min_size == advice[1].report.min_size
    assert 'recommended: ' + advice[1].change.name in advice_table(advice)


@pytest.mark.slow
def test_nothing_is_recommended_where_nothing_is_wasted():
    advice = advise_receptive_field(build('resnet18'), (480, 480))
    assert recommended(advice) is None and 'recommended: none' in advice_table(advice)


@pytest.mark.parametrize('name, change', [('vgg16', 'no-features.23'), ('alexnet', 'stem-stride-2')])
def test_other_families_have_changes(name, change):
    rows = by_name(advise_receptive_field(build(name), (224, 224)))
    before, after = rows['as-is'].report, rows[change].report
    assert after.min_size < before.min_size or after.max_size < before.max_size
    assert after.macs > before.macs and after.params == before.params


class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)

    def forward(self, x):
        fine = self.stem(x)
        return fine, self.deep(fine)


def test_boxes_count():
    model = Pyramid()
    small = advise_receptive_field(model, (64, 64), boxes=np.array([[3., 3.], [3., 9.]]))
    assert small[0].scores.too_small == 1 and recommended(small).change.name == 'stem-stride-1'
    large = advise_receptive_field(model, (64, 64), boxes=np.array([[60., 60.]]))
    assert large[0].scores.too_large == 1 and recommended(large) is None


def field(r_max, jump):
    return FieldSize((1, 1), r_max, r_max, (jump, jump), (0., 0.), (False, False), (8, 8), True)


def test_scores_by_hand():
    report = analyze(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)),
                     (3, 3))
    boxes = np.array([[7., 30.], [30., 30.], [30., 31.], [200., 200.]])   # w, h
    found = scores(report, [field((30, 90), 4), field((300, 300), 8)], report, boxes)
    assert found == Scores(0.5, 0.25, 0.25, 1.0) and found.total == 1.0
    assert Scores(0.1, 0, 0, 4.0).total == pytest.approx(0.2)
    assert Scores(0.1, 0, 0, 0.5).total == 0.1   # a cheaper network wins nothing by that


def test_changes_that_do_not_fit_are_named():
    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 2, 2)

        def forward(self, x):
            return self.b(self.a(x)).reshape(1, 4, 4, 4)

    advice = advise_receptive_field(Strict(), (16, 16))
    assert advice[-1].report is None and 'cannot run at 16 x 16' in advice[-1].error
    assert f'left out, {advice[-1].change.name}: ' in advice_table(advice)
