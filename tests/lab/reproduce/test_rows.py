import pytest

from gmconv_mmdet.lab.reproduce.rows import Row, paper_results, select_rows


def test_every_row_has_a_config_and_a_baseline_in_its_table():
    for table, number in (('III', 4), ('V', 14)):
        rows = list(paper_results(table))
        assert len(rows) == number
        for row in rows:
            assert row.config.is_file()
            assert row.baseline is None or row.baseline in rows
            assert (row.baseline is None) == (row.backbone == 'r50')


def test_a_row_is_compared_with_what_the_paper_compares_it_with():
    baseline = {row.backbone: row.baseline.backbone for row in select_rows('V') if row.baseline}
    assert baseline.pop('r50-gm-stem-l1-dcn-l2-l4') == 'r50-dcn-l2-l4'
    assert set(baseline.values()) == {'r50'}
    assert [row.backbone for row in select_rows('V', ['faster-rcnn']) if not row.has_gmconv] == [
        'r50', 'r50-dcn-l2-l4']


def test_selection_by_row_backbone_and_detector_keeps_the_papers_order():
    assert select_rows('V', ['cascade-rcnn_r50', 'r50-gm-stem-l1']) == [
        Row('faster-rcnn', 'r50-gm-stem-l1'), Row('cascade-rcnn', 'r50'),
        Row('cascade-rcnn', 'r50-gm-stem-l1')]
    assert len(select_rows('V', ['cascade-rcnn'])) == 7
    assert len(select_rows('III')) == 4


def test_an_unknown_row_or_table_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match='r50-gm-l9.*Its rows are faster-rcnn_r50,'):
        select_rows('V', ['r50', 'r50-gm-l9'])
    with pytest.raises(ValueError, match="one of III, V, got 'IV'"):
        paper_results('IV')
