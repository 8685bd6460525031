import hashlib
import re

from gmconv_mmdet.reproduce.provenance import code_version, environment, file_sha256


def test_sha256_of_a_file_larger_than_a_block(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / 'file').write_bytes(content)
    assert file_sha256(tmp_path / 'file') == hashlib.sha256(content).hexdigest()


def test_code_version_is_a_commit_or_a_version():
    assert re.fullmatch(r'[0-9a-f]{40}(\+changes)?|version \S+', code_version())


def test_environment_names_what_numbers_depend_on():
    facts = environment()
    assert {'torch', 'mmdet', 'numpy', 'pycocotools', 'gmconv_mmdet', 'Python'} <= set(facts)
    assert all('\n' not in value for value in facts.values())
