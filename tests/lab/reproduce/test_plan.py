import torch

from gmconv_mmdet.lab.reproduce.plan import plan_text
from gmconv_mmdet.lab.reproduce.rows import select_rows
from gmconv_mmdet.lab.reproduce.run_folder import RunFolder, write_json


def test_plan_counts_what_is_left(tmp_path):
    runs = [RunFolder(tmp_path, row, 0, False) for row in select_rows('III')]
    done, begun = runs[0], runs[1]
    for run in (done, begun):
        run.train_dir.mkdir(parents=True)
        write_json(run.settings, {})
    write_json(done.result, dict(schema=1, row=done.row.name, seed=0, rehearsal=False))
    torch.save({}, begun.train_dir / 'epoch_5.pth')
    (begun.train_dir / 'epoch_6.pth').write_bytes(b'cut off')
    lines = plan_text(runs).splitlines()
    assert lines[1].split()[1:] == ['0', 'done', '12/12', '0']
    assert lines[2].split()[1:] == ['0', 'in', 'progress', '5/12', f'{7 * 118_287:,}']
    assert lines[3].split()[1:] == ['0', 'missing', '0/12', f'{12 * 118_287:,}']
    assert lines[-1].startswith('1 done, 1 in progress, 2 missing; '
                                f'{31 * 118_287:,} images x epochs left')


def test_a_rehearsals_plan_says_so(tmp_path):
    text = plan_text([RunFolder(tmp_path, row, 0, True) for row in select_rows('V')])
    assert text.startswith('REHEARSAL') and '14 missing' in text
