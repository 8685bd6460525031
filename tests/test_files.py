import errno
import os

import pytest

from gmconv_mmdet.files import read_json, write_json, write_text


def test_a_file_is_replaced_in_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'result.json'
    write_json(path, dict(a='ü'))
    with pytest.raises(TypeError):
        write_json(path, dict(a=object()))
    assert read_json(path) == dict(a='ü') and os.listdir(tmp_path) == ['result.json']
    path.write_text('[1]')
    assert read_json(path) is None and read_json(tmp_path / 'none.json') is None


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / 'real').write_text('old')
    (tmp_path / 'link').symlink_to('real')
    write_text(tmp_path / 'link', 'new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'real').read_text() == 'new'


def test_a_disk_that_fails_is_an_error_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    write_text(path, 'old')

    def fsync(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(OSError, match='nput/output'):
        write_text(path, 'new')
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['file']
