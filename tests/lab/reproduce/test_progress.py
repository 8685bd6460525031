import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmconv_mmdet.lab.reproduce.progress import clock, phase_mark, read_progress, tail

# Printed by MMEngine 0.10.7.
TRAIN = ('11/21 10:14:58 - mmengine - INFO - Epoch(train) [2][  50/7330]  lr: 7.5050e-06  eta: '
         '0:00:03  time: 0.5000  data_time: 0.0249  loss: 5.5055  loss_rpn_cls: 0.6939')
VAL = ('11/21 10:15:56 - mmengine - INFO - Epoch(val) [2][2/8]    eta: 0:00:03  time: 0.6177  '
       'data_time: 0.0126  ')
TEST = ('11/21 10:16:26 - mmengine - INFO - Epoch(test) [ 100/5000]    eta: 0:00:04  time: 0.2500  '
        'data_time: 0.0307  ')


@pytest.fixture
def log(tmp_path):
    return tmp_path / 'output.log'


def test_training_counts_the_epochs_that_are_left(log):
    log.write_text(f'{TRAIN}\nsome warning\n')
    progress = read_progress(log)
    assert progress.text(12) == 'train epoch 2/12, iteration 50/7330, loss 5.5055'
    assert progress.seconds_left(12) == pytest.approx(0.5 * (7330 - 50 + 10 * 7330))


def test_evaluation_counts_itself_only(log):
    log.write_text(f'{TRAIN}\n{VAL}\n')
    assert read_progress(log).text(12) == 'val epoch 2/12, iteration 2/8'
    assert read_progress(log).seconds_left(12) == pytest.approx(6 * 0.6177)
    log.write_text(f'{TEST}\n')
    assert read_progress(log).text(0) == 'test iteration 100/5000'
    assert read_progress(log).seconds_left(0) == pytest.approx(4900 * 0.25)


def test_lines_of_an_earlier_process_are_not_progress(log):
    assert read_progress(log) is None
    log.write_text(TRAIN + '\n' + phase_mark('test', ['python', 'test.py']))
    assert read_progress(log) is None


def test_a_loss_that_is_not_a_number_is_shown(log):
    log.write_text(TRAIN.replace('5.5055', 'nan') + '\n')
    assert read_progress(log).loss == 'nan'


def test_tail_reads_the_end_of_large_and_of_odd_files(log):
    log.write_bytes(b'\xff\xfe' + b'x' * 200_000 + b'\nlast but one\nlast')
    assert tail(log, 2) == 'last but one\nlast'
    assert tail(log.with_name('none'), 3) == ''


@given(st.integers(0, 10**7))
def test_clock_reads_back(seconds):
    text = clock(seconds)
    days, _, rest = text.rpartition(' d ')
    parts = [int(part) for part in rest.split(':')]
    if days:
        assert (int(days) * 24 + parts[0]) * 60 + parts[1] == seconds // 60
    else:
        assert (parts[0] * 60 + parts[1]) * 60 + parts[2] == seconds < 86400


def test_unknown_time():
    assert clock(None) == '?'
