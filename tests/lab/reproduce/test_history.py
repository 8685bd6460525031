import re

from gmconv_mmdet.lab.reproduce.history import code_version


def test_code_version_is_a_commit_or_a_version():
    assert re.fullmatch(r'[0-9a-f]{40}(\+changes)?|version \S+', code_version())
