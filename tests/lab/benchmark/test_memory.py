import torch
import torch.nn as nn

from gmconv_mmdet.lab.benchmark.memory import held_bytes, peak_bytes


def test_peak_of_what_comes_and_goes():
    def call():
        first = torch.empty(1000, 1000)
        del first
        second, third = torch.empty(500, 1000), torch.empty(200, 1000)
        return second + 1, third

    # 4 MB alone, then 2 + 0.8 + 2; a scalar here and there
    assert 4_800_000 <= peak_bytes(call) < 4_801_000


def test_held_by_network_and_optimizer():
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.BatchNorm1d(10))
    tied = nn.ModuleList([model[0], nn.Linear(10, 10, bias=False)])
    tied[1].weight = model[0].weight
    assert held_bytes(tied) == 400
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = held_bytes(model, optimizer)
    assert before == 4 * (100 + 4 * 10) + 8  # num_batches_tracked is int64
    model(torch.randn(4, 10)).sum().backward()
    optimizer.step()
    assert held_bytes(model, optimizer) == before + 4 * 120
