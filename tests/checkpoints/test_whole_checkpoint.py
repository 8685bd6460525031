"""Complete and incomplete checkpoint files, and which of them to resume from."""
import os
import zipfile

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gmconv_mmdet.checkpoints.whole_checkpoint import (
    first_whole,
    is_whole_checkpoint,
    read_pointer,
    resume_candidates,
)


def save(path, numbers=100):
    torch.save(dict(weight=torch.arange(float(numbers)), meta=dict(epoch=1)), path)


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_checkpoint_cut_off_anywhere_is_not_whole(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp('checkpoint') / 'epoch_1.pth'
    save(path)
    assert is_whole_checkpoint(path)
    content = path.read_bytes()
    path.write_bytes(content[:int(cut * len(content))])
    assert not is_whole_checkpoint(path)


def test_a_checkpoint_with_a_damaged_byte_is_not_whole(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    save(path, 100_000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # within the tensor
    path.write_bytes(content)
    assert zipfile.is_zipfile(path) and not is_whole_checkpoint(path)
    assert not is_whole_checkpoint(tmp_path / 'absent.pth')


@settings(max_examples=60, deadline=None)
@given(damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)),
                       min_size=1, max_size=5))
def test_damaged_bytes_raise_nothing(tmp_path_factory, damage):
    path = tmp_path_factory.mktemp('checkpoint') / 'epoch_1.pth'
    save(path)
    content = bytearray(path.read_bytes())
    for place, byte in damage:
        content[int(place * len(content))] = byte
    path.write_bytes(content)
    assert is_whole_checkpoint(path) in (True, False)


def test_candidates_by_note_and_time(tmp_path):
    def at(name, seconds, text=None):
        if text is None:
            save(tmp_path / name)
        else:
            (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (seconds, seconds))

    def order():
        return [path.name for path in resume_candidates(
            pointer, tmp_path, tmp_path.glob('epoch_*.pth'))]

    pointer = tmp_path / 'last_checkpoint'
    for i, name in enumerate(('epoch_9', 'epoch_2', 'epoch_10')):  # 9 is of an earlier, longer run
        at(f'{name}.pth', 1000 + i)
    at('best_epoch_2.pth', 2000)
    assert order() == ['epoch_10.pth', 'epoch_2.pth', 'epoch_9.pth']
    at('last_checkpoint', 1010, text=str(tmp_path / 'epoch_2.pth'))
    assert order() == ['epoch_2.pth', 'epoch_10.pth', 'epoch_9.pth']
    at('last_checkpoint', 1010, text='/moved/away/epoch_2.pth')
    assert order() == ['epoch_2.pth', 'epoch_2.pth', 'epoch_10.pth', 'epoch_9.pth']  # here, there
    at('last_checkpoint', 1001, text=str(tmp_path / 'epoch_2.pth'))  # killed before it named 10
    assert order() == ['epoch_10.pth', 'epoch_2.pth', 'epoch_9.pth']
    at('last_checkpoint', 1010, text='')
    assert order() == ['epoch_10.pth', 'epoch_2.pth', 'epoch_9.pth']


def test_first_whole_passes_over_damaged_and_absent_ones(tmp_path):
    paths = [tmp_path / f'epoch_{i}.pth' for i in range(4)]
    for path in paths[1:]:
        save(path)
    paths[1].write_bytes(paths[1].read_bytes()[:-7])
    assert first_whole(paths) == (paths[2], [paths[1]])
    assert first_whole(paths[:2]) == (None, [paths[1]])
    assert first_whole(paths[:1]) == (None, [])


def test_pointer(tmp_path):
    assert read_pointer(tmp_path / 'last_checkpoint') == ''
    (tmp_path / 'last_checkpoint').write_bytes(b'\xff\xfe')
    assert read_pointer(tmp_path / 'last_checkpoint') == ''
    (tmp_path / 'last_checkpoint').write_text('/a b/epoch_1.pth\n')
    assert read_pointer(tmp_path / 'last_checkpoint') == '/a b/epoch_1.pth'
