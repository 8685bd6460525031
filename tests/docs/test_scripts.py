"""The shell scripts of tools/dev give programs arguments that they take."""
from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from .test_commands import check

PARTS = ('recipe-scratch', 'recipe-warm', 'cifar10', 'deeppcb', 'deeppcb-recipe', 'deeppcb-warm', 'times',
         'pages')


@pytest.mark.parametrize('arguments, least', [
    (('gpu.sh', 'DATA', 'OUT'), 5), *((('evidence.sh', part, 'OUT'), 1) for part in PARTS)])
def test_arguments_are_accepted(arguments, least, repo, tmp_path, monkeypatch, capsys):
    recorder, record = tmp_path / 'python', tmp_path / 'record'
    recorder.write_text('#!/usr/bin/env bash\nprintf "%q " "$@" >> "$RECORD"; echo >> "$RECORD"\n')
    recorder.chmod(0o755)
    (tmp_path / 'data').mkdir()
    places = dict(DATA=str(tmp_path / 'data'), OUT=str(tmp_path / 'out'))
    subprocess.run(['bash', repo / 'tools' / 'dev' / arguments[0],
                    *(places.get(word, word) for word in arguments[1:])], check=True, capture_output=True,
                   env=dict(os.environ, PYTHON=str(recorder), RECORD=str(record),
                            GMCONV_SHARED_DATA=places['DATA']))
    commands = [shlex.split(line) for line in record.read_text().splitlines()]
    commands = [words for words in commands if words != ['-']]  # a program on standard input
    assert len(commands) >= least
    monkeypatch.chdir(repo)
    for words in commands:
        check(['python', *words], capsys)
