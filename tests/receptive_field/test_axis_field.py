"""Intervals against a brute-force walk over positions."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gmconv_mmdet.receptive_field.tracing.axis_field import (
    PIXELS,
    AxisField,
    IrregularFieldError,
    bins,
    convolution,
    read,
    resize,
    strided,
    transposed_convolution,
    union,
    window,
)
from gmconv_mmdet.receptive_field.tracing.field_trace import require_meta_device


def reached(function, length):
    """Which input pixels each output position depends on: one gradient a position."""
    x = torch.zeros(1, 1, 1, length, dtype=torch.double, requires_grad=True)
    y = function(x).flatten()
    spans = []
    for i in range(len(y)):
        grad = torch.autograd.grad(y[i], x, retain_graph=True)[0].flatten()
        at = grad.nonzero().flatten()
        spans.append((int(at[0]), int(at[-1])) if len(at) else None)
    return spans


def check(field, spans, margin, length):
    """Compare where nothing is clipped: inside the image, and off the border of every map."""
    compared = 0
    for i in range(margin, len(spans) - margin):
        seen = field.interval(i)
        if seen is None or 0 <= seen[0] <= seen[1] < length:
            assert seen == spans[i], i
            compared += 1
    assert compared >= field.period


def ones(k):
    return torch.ones(1, 1, 1, k, dtype=torch.double)


kernels = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3))


@settings(max_examples=25, deadline=None)
@given(kernels, kernels)
def test_two_convolutions(first, second):
    field, f = PIXELS, lambda x: x
    for k, s, p, d in (first, second):
        field = read(field, convolution(k, s, p, d))
        f = (lambda x, f=f, k=k, s=s, p=p, d=d:
             F.conv2d(f(x), ones(k), None, (1, s), (0, p), (1, d)))
    r = 1 + first[3] * (first[0] - 1) + second[3] * (second[0] - 1) * first[1]
    assert field.size == r and field.jump == first[1] * second[1] and field.period == 1
    check(field, reached(f, 120), 0, 120)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2),
       st.integers(1, 4), st.integers(1, 3))
def test_convolution_after_transposed(k, s, p, d, k2, s2):
    p = min(p, d * (k - 1))
    field = read(read(PIXELS, transposed_convolution(k, s, p, d)), convolution(k2, s2))
    f = lambda x: F.conv2d(F.conv_transpose2d(x, ones(k), None, (1, s), (0, p), 0, 1, (1, d)),
                           ones(k2), None, (1, s2))
    check(field, reached(f, 120), 9, 120)


@pytest.mark.parametrize('mode, reach', [('nearest', (0,)), ('bilinear', (0, 1)),
                                         ('bicubic', (-1, 0, 1, 2))])
@pytest.mark.parametrize('ratio', [Fraction(2), Fraction(3), Fraction(1, 2), Fraction(3, 2),
                                   Fraction(1, 3)])
@pytest.mark.parametrize('kernel', [1, 2, 3])
def test_resize_then_convolution(mode, reach, ratio, kernel):
    require_meta_device()  # torch 1.13 counts neighbours of weight zero
    if mode == 'bicubic' and ratio in (Fraction(3), Fraction(1, 3)):
        return  # a tap that falls on a source position has weight zero at the three others
    field = read(read(PIXELS, resize(ratio, reach)), convolution(kernel))
    size = int(60 * ratio)
    f = lambda x: F.conv2d(F.interpolate(x, size=(1, size), mode=mode), ones(kernel))
    check(field, reached(f, 60), 6, 60)


@pytest.mark.parametrize('source, target', [(60, 20), (60, 45), (60, 7), (20, 30), (60, 60)])
def test_bins_are_adaptive_pooling(source, target):
    field = read(PIXELS, bins(source, target))
    assert reached(lambda x: F.adaptive_avg_pool2d(x, (1, target)), source) == \
        [field.interval(i) for i in range(target)]


def test_windows_periods_and_unions():
    field = read(read(PIXELS, strided(-3)), window(7))
    assert [field.interval(i) for i in (0, 6, 7)] == [(-3, 3), (-3, 3), (4, 10)]
    assert field.size == 7 and field.jump == 1
    # Upsampling and striding back is the identity: its period must not stay.
    assert read(read(PIXELS, resize(Fraction(4), (0,))), strided(0, 4)) == PIXELS
    assert union(read(PIXELS, strided(-2)), read(PIXELS, strided(3)), 0).size == 6
    a, b = AxisField(2, ((0, 4),)), AxisField(3, ((0, 1),))
    assert union(a, b, 10).interval(10) == (20, 31)  # of unequal jumps: right at the position


def test_endless_periods_are_refused():
    field = PIXELS
    with pytest.raises(IrregularFieldError, match='4096'):
        for n in (61, 67, 71):
            field = read(field, resize(Fraction(n, n - 1), (0,)))
