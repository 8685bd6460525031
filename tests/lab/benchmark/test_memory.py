import torch

from gmconv_mmdet.lab.benchmark.memory import peak_bytes


def test_peak_of_what_comes_and_goes():
    def call():
        first = torch.empty(1000, 1000)
        del first
        second, third = torch.empty(500, 1000), torch.empty(200, 1000)
        return second + 1, third

    # 4 MB alone, then 2 + 0.8 + 2; a scalar here and there
    assert 4_800_000 <= peak_bytes(call) < 4_801_000
