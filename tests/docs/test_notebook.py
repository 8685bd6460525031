"""The tutorial: its outputs are kept and name no path of the machine, and it runs."""
from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
NOTEBOOK = REPO / 'demo' / 'GMConv_Tutorial.ipynb'
MISSING = [name for name in ('nbclient', 'nbformat', 'ipykernel', 'onnxruntime', 'onnxscript', 'mmdet')
           if importlib.util.find_spec(name) is None]


def outputs(notebook: dict) -> list[dict]:
    return [output for cell in notebook['cells'] for output in cell.get('outputs', [])]


def test_outputs_are_kept():
    notebook = json.loads(NOTEBOOK.read_text(encoding='utf-8'))
    kinds = [output['output_type'] for output in outputs(notebook)]
    assert kinds.count('display_data') >= 5 and 'stream' in kinds and 'error' not in kinds
    assert NOTEBOOK.stat().st_size < 1_500_000
    text = ''.join(''.join(output.get('text', '')) for output in outputs(notebook))
    paths = set(re.findall(r'(?<![\w./~])/(?:\w[\w.-]*/)+', text))
    assert all(path.startswith('/home/me/') for path in paths), paths


def test_links_lead_somewhere():
    links = re.findall(r'\]\((\.\./[^)]+)\)', NOTEBOOK.read_text(encoding='utf-8'))
    assert links and all((NOTEBOOK.parent / link).exists() for link in links)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.skipif(bool(MISSING), reason=f'not installed: {", ".join(MISSING)} (docs/requirements.txt)')
def test_it_runs(tmp_path):
    out = tmp_path / 'executed.ipynb'
    subprocess.run([sys.executable, str(REPO / 'tools' / 'dev' / 'execute_notebook.py'), '--out', str(out)],
                   check=True)
    kinds = [output['output_type'] for output in outputs(json.loads(out.read_text(encoding='utf-8')))]
    assert kinds.count('display_data') >= 5 and 'error' not in kinds
