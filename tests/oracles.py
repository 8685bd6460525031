"""Slow and plain: what the fast code is tested against, written as the papers have it."""
from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor


def loop_mask(kernel_h: int, kernel_w: int, s1: float, s2: float) -> Tensor:
    """GMConv, Eq. 3-6, with the normalisation written out: f / max f, cell by cell."""
    cells = [[(i - (kernel_h - 1) / 2, j - (kernel_w - 1) / 2) for j in range(kernel_w)]
             for i in range(kernel_h)]
    exponents = [[-0.5 * (x * x / s1 ** 2 + y * y / s2 ** 2) for y, x in row] for row in cells]
    largest = max(max(row) for row in exponents)
    return torch.tensor([[math.exp(e - largest) for e in row] for row in exponents],
                        dtype=torch.float64)


def loop_extent(mask: list[list[float]]) -> tuple[float, float]:
    """(h, w) of a kernel: sqrt(12 variance + 1) along each axis."""
    def size(marginal):
        total = sum(marginal)
        centre = sum(i * m for i, m in enumerate(marginal)) / total
        spread = sum(m * (i - centre) ** 2 for i, m in enumerate(marginal))
        return math.sqrt(12 * spread / total + 1)
    return size([sum(row) for row in mask]), size([sum(column) for column in zip(*mask)])


def loop_prediction(predictor, x: Tensor) -> Tensor:
    """GMConv, Eq. 7, sample by sample, unit by unit, in Python floats."""
    rows = []
    for sample in x.double():
        channels = [channel.flatten().tolist() for channel in sample]
        z = [max(c) for c in channels] + [sum(c) / len(c) for c in channels]
        hidden = [max(0.0, sum(w * v for w, v in zip(row, z))) for row in predictor.w0.tolist()]
        out = [sum(w * h for w, h in zip(row, hidden)) + b
               for row, b in zip(predictor.w1.tolist(), predictor.b1.tolist())]
        rows.append([out[0], out[0] * out[1]] if predictor.sigma_pattern == 'sigma_ratio' else out)
    return torch.tensor(rows, dtype=torch.float64)


def loop_refocus(basis: Tensor, map_weight: Tensor) -> Tensor:
    """RefConv's kernel: every cell of every slice, from all slices of its group."""
    out_channels, group_in, height, width = basis.shape
    slices = [(o, i) for o in range(out_channels) for i in range(group_in)]
    count, groups, map_h, map_w = map_weight.shape
    assert count == len(slices)
    result = basis.clone()
    for s, (o, i) in enumerate(slices):
        first = s // groups * groups
        for y, x, member, dy, dx in itertools.product(range(height), range(width), range(groups),
                                                      range(map_h), range(map_w)):
            from_y, from_x = y + dy - map_h // 2, x + dx - map_w // 2
            if 0 <= from_y < height and 0 <= from_x < width:
                value = basis[(*slices[first + member], from_y, from_x)]
                result[o, i, y, x] += map_weight[s, member, dy, dx] * value
    return result


def loop_conv(conv, x: Tensor, kernel: Tensor) -> Tensor:
    """A convolution with the arguments of ``conv`` and another kernel, by loops over every output
    cell in float64; padding by index arithmetic."""
    x, kernel = x.double(), kernel.detach().double()
    batch, _, height, width = x.shape
    out_channels, group_in, kernel_h, kernel_w = kernel.shape
    (stride_h, stride_w), (dil_h, dil_w) = conv.stride, conv.dilation
    if conv.padding == 'same':
        total_h, total_w = dil_h * (kernel_h - 1), dil_w * (kernel_w - 1)
        (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in (total_h, total_w))
    else:
        (top, left) = (bottom, right) = (0, 0) if conv.padding == 'valid' else conv.padding

    def source(i, size):
        """Index in the image of index i in the padded one; None for a padded zero."""
        if 0 <= i < size:
            return i
        if conv.padding_mode == 'zeros':
            return None
        if conv.padding_mode == 'circular':
            return i % size
        if conv.padding_mode == 'replicate':
            return min(max(i, 0), size - 1)
        return -i if i < 0 else 2 * (size - 1) - i  # reflect

    out_h = (height + top + bottom - dil_h * (kernel_h - 1) - 1) // stride_h + 1
    out_w = (width + left + right - dil_w * (kernel_w - 1) - 1) // stride_w + 1
    out = torch.zeros(batch, out_channels, out_h, out_w, dtype=torch.float64)
    group_out = out_channels // conv.groups
    for n, o, oy, ox in itertools.product(*map(range, out.shape)):
        total = 0.0 if conv.bias is None else conv.bias[o].item()
        first = o // group_out * group_in
        for ky, kx in itertools.product(range(kernel_h), range(kernel_w)):
            iy = source(oy * stride_h + ky * dil_h - top, height)
            ix = source(ox * stride_w + kx * dil_w - left, width)
            if iy is not None and ix is not None:
                total += float(kernel[o, :, ky, kx] @ x[n, first:first + group_in, iy, ix])
        out[n, o, oy, ox] = total
    return out


def loop_gmconv(conv, x: Tensor) -> Tensor:
    """A whole GMConv, sample by sample."""
    rows = []
    for sample in x.split(1):
        if conv.dynamic:
            s1, s2 = (loop_prediction(conv.sigma_predictor, sample)[0].tolist() * 2)[:2]
        else:
            s1 = s2 = conv.sigma.item()
        rows.append(loop_conv(conv, sample, conv.weight.double() * loop_mask(
            *conv.kernel_size, s1, s2)))
    return torch.cat(rows)


def accounted(report, net, source_names) -> None:
    """Each tensor of a network and of the checkpoint it loads has exactly one fate."""
    ours = report.loaded + report.folded + report.initialized
    for name in net.state_dict():
        assert ours.count(name) == 1, name
    theirs = report.loaded + report.folded + report.ignored
    for name in source_names:
        assert theirs.count(name) == 1, name
