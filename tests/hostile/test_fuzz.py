"""The properties of fuzz.py, for some seconds and on the same files every time."""
import pytest

from .fuzz import PROPERTIES, fuzz


@pytest.mark.parametrize('name', list(PROPERTIES))
def test_a_file_is_used_whole_or_refused(name, tmp_path):
    seen = fuzz(name, tmp_path, examples=150)
    assert set(seen) == {'refused', 'loaded' if name == 'load_pretrained' else 'converted'}
    assert sum(seen.values()) >= 150
