"""Frozen parameters in two real processes (gloo, CPU): they stay, and the processes stay equal."""
import json
from pathlib import Path

import pytest

from ..processes import torchrun

HEAD = {'head.weight', 'head.bias'}


@pytest.mark.slow
def test_frozen_parameters_stay_and_processes_equal(tmp_path):
    torchrun(Path(__file__).with_name('frozen_in_two.py'), tmp_path / 'out.json')
    ranks = json.loads((tmp_path / 'out.json').read_text())
    assert len(ranks) == 2
    for results in ranks:
        changed = {name: set(result['changed']) for name, result in results.items()}
        masks = changed.pop('frozen_stages=4') - HEAD
        assert len(masks) >= 16 + 1 and all('.sigma' in name for name in masks)
        assert len(changed) == 4 and all(names == HEAD for names in changed.values()), changed
        assert not any(result['differ'] for result in results.values()), results
