import re

from gmconv_mmdet import doctor
from gmconv_mmdet.lab.reproduce.history import code_version, environment


def test_code_version_is_a_commit_or_a_version():
    assert re.fullmatch(r'[0-9a-f]{40}(\+changes)?|version \S+', code_version())


def test_environment_names_what_numbers_depend_on():
    facts = environment()
    mmdet = doctor.installed_stack().mmdet[0]
    assert {'torch', mmdet, 'numpy', 'pycocotools', 'gmconv_mmdet', 'Python'} <= set(facts)
    assert all('\n' not in value for value in facts.values())
