import pytest
import torch
import torch.nn as nn

from gmconv_mmdet.layers import GMConv2d, gaussian_mask
from gmconv_mmdet.layers.masked_kernel import masked_extent, masked_kernels


@pytest.mark.parametrize('shape', [(3, 3), (7, 5), (1, 4), (2, 2)])
def test_flat_mask_has_the_kernels_size(shape):
    assert masked_extent(torch.ones(shape)) == pytest.approx(shape)


def test_grows_with_sigma():
    sizes = [masked_extent(gaussian_mask((7, 7), torch.tensor([s])))[0]
             for s in (0.1, 0.5, 1.0, 2.0, 5.0, 50.0)]
    assert sizes == sorted(sizes) and sizes[0] == pytest.approx(1) and sizes[-1] > 6.9


@pytest.mark.parametrize('mask', [torch.ones(3), -torch.ones(3, 3), torch.zeros(3, 3)])
def test_not_a_mask(mask):
    with pytest.raises(ValueError, match='K_h, K_w'):
        masked_extent(mask)


def test_layers_with_masks_are_found():
    model = nn.ModuleDict(dict(
        static=GMConv2d(3, 4, 5, init_sigma=0.05), dynamic=GMConv2d(3, 4, 3, dynamic=True),
        plain=nn.Conv2d(3, 4, 3), one=GMConv2d(3, 4, 1)))
    found = masked_kernels(model)
    assert sorted(found) == ['dynamic', 'static']
    assert found['static'] == pytest.approx((1, 1)) and 2.9 < found['dynamic'][0] < 3
