"""The paper's table and ours side by side: Markdown, CSV, and a figure of gains by object size."""
from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from ....messages import markdown_table
from ..paper import COCO_METRICS
from ..run_folder import RunFolder
from ..table import Row, paper_results
from .comparison import short_code
from .paired_stats import Summary, paired_values, summarize

REHEARSAL_WARNING = ('REHEARSAL: a few small images, a few iterations. No number below is a '
                     'result; none says anything about the method.')
PAPER_BATCH_SIZE = 16
_NAMES = {'AP': 'AP', 'AP50': 'AP50', 'AP75': 'AP75', 'APS': 'S', 'APM': 'M', 'APL': 'L'}


class Table:
    """One of the paper's detection tables with what was measured.

    Args:
        table (str): 'III' or 'V'.
        runs (Sequence[RunFolder]): the runs that could fill it, finished or not.
        rehearsal (bool): whether they are rehearsals.
        rows (Sequence[Row], optional): show these only.

    Raises:
        RunFolderError: a result that isn't the run's own.
    """

    def __init__(self, table: str, runs: Sequence[RunFolder], rehearsal: bool,
                 rows: Sequence[Row] | None = None) -> None:
        self.name = table
        self.paper = {row: printed for row, printed in paper_results(table).items()
                      if rows is None or row in rows}
        self._all_paper = paper_results(table)
        self.rehearsal = rehearsal
        self.metrics = [name for name in COCO_METRICS
                        if name in next(iter(self.paper.values())).ap]
        self.results: dict[Row, dict[int, tuple[RunFolder, dict]]] = {
            row: {} for row in self._all_paper}
        for run in runs:
            result = run.read_result()
            if result is not None:
                self.results[run.row][run.seed] = run, result

    def measured(self, row: Row, metric: str) -> Summary | None:
        return summarize([value for _, result in self.results[row].values()
                          if (value := result['metrics'][metric]) is not None])

    def gain(self, row: Row, metric: str) -> Summary | None:
        """Over the row's own baseline, seed by seed: seeds that only one of the two has are left
        out."""
        if row.baseline is None:
            return None
        own, base = ({seed: result['metrics'][metric] for seed, (_, result)
                      in self.results[which].items()} for which in (row, row.baseline))
        return summarize(paired_values(own, base))

    def paper_gain(self, row: Row, metric: str) -> float | None:
        if row.baseline is None:
            return None
        return round(self.paper[row].ap[metric] - self._all_paper[row.baseline].ap[metric], 1)


def markdown(table: Table, folder: Path, figure: str) -> str:
    """The report, with links relative to ``folder``."""
    what = 'Rehearsal of ' if table.rehearsal else ''
    lines = [f'# {what}Table {table.name} of the GMConv paper', '']
    if table.rehearsal:
        lines += [f'**{REHEARSAL_WARNING}**', '']
    lines += ['Box AP on COCO val in per cent. "paper": printed in arXiv 2302.04544; "here": '
              'measured with this project, mean ± sample standard deviation (number of seeds). '
              'Cells without a finished run are empty.', '']
    for detector in dict.fromkeys(row.detector for row in table.paper):
        rows = [row for row in table.paper if row.detector == detector]
        lines += [f'## {detector}', '', *_comparison(table, rows), '',
                  'Gain over the row\'s own baseline (the DCN row for the GMConv-DCN row, else '
                  '`r50`), in points, seed by seed:', '', *_gains(table, rows), '']
    lines += ['## Gains by object size', '', f'![gains by object size]({figure})', '',
              '## Where the numbers come from', '', *_sources(table, folder), '']
    return '\n'.join(lines)


def _header(table: Table) -> list[str]:
    here = 'here (rehearsal)' if table.rehearsal else 'here'
    return [f'{_NAMES[metric]} {who}' for metric in table.metrics for who in ('paper', here)]


def _comparison(table: Table, rows: Sequence[Row]) -> list[str]:
    return markdown_table(['row', *_header(table)], [
        [f'`{row.backbone}`', *(cell for metric in table.metrics for cell in (
            f'{table.paper[row].ap[metric]:.1f}', _text(table.measured(row, metric))))]
        for row in rows])


def _gains(table: Table, rows: Sequence[Row]) -> list[str]:
    return markdown_table(['row', 'baseline', *_header(table)], [
        [f'`{row.backbone}`', f'`{row.baseline.backbone}`',
         *(cell for metric in table.metrics for cell in (
             f'{table.paper_gain(row, metric):+.1f}', _text(table.gain(row, metric), '+')))]
        for row in rows if row.baseline is not None])


def _text(one: Summary | None, sign: str = '') -> str:
    return one.text(sign) if one else ''


def _sources(table: Table, folder: Path) -> list[str]:
    body, environments = [], {}
    for row in table.paper:
        for seed, (run, result) in sorted(table.results[row].items()):
            def link(text: str, path: Path) -> str:
                return f'[{text}](<{Path(os.path.relpath(path, folder)).as_posix()}>)'

            number = environments.setdefault(tuple(sorted(result['environment'].items())),
                                             len(environments) + 1)
            notes = [*result['notes'], *_deviations(result)]
            body.append([
                f'`{row.name}`', str(seed), link('config', run.path / result['files']['config']),
                link('log', run.path / result['files']['output']),
                link(result['checkpoint_sha256'][:12], run.path / result['files']['checkpoint']),
                ' '.join(f'`{short_code(code)}`' for code in result['code']), str(number),
                link('result', run.result), '; '.join(notes)])
    if not body:
        return ['No run is finished.']
    lines = markdown_table(['row', 'seed', 'config', 'log', 'checkpoint (SHA-256)', 'code',
                            'environment', 'all of it', 'notes'], body)
    for facts, number in environments.items():
        lines += ['', f'Environment {number}: ' + '; '.join(
            f'{key} {value}' for key, value in facts) + '.']
    return lines


def _deviations(result: dict) -> list[str]:
    """Where a run differs from the paper's recipe."""
    notes = []
    if result['batch_size'] != PAPER_BATCH_SIZE:
        notes.append(f'batch {result["batch_size"]}, learning rate scaled from the paper\'s '
                     f'{PAPER_BATCH_SIZE}')
    if result['weights'] is None:
        notes.append('backbone from random weights')
    return notes


def csv_text(table: Table) -> str:
    """One line a row and metric. Empty cells: not measured."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['table', 'rehearsal', 'detector', 'backbone', 'metric', 'paper',
                     'measured_mean', 'measured_std', 'seeds', 'baseline', 'paper_gain',
                     'measured_gain_mean', 'measured_gain_std', 'gain_seeds'])

    def cells(summary: Summary | None) -> list:
        if summary is None:
            return ['', '', 0]
        spread = '' if summary.spread is None else f'{summary.spread:.3f}'
        return [f'{summary.mean:.3f}', spread, summary.seeds]

    for row, printed in table.paper.items():
        for metric in table.metrics:
            gain = table.paper_gain(row, metric)
            writer.writerow([
                table.name, 'yes' if table.rehearsal else 'no', row.detector, row.backbone, metric,
                printed.ap[metric], *cells(table.measured(row, metric)),
                row.baseline.backbone if row.baseline else '', '' if gain is None else gain,
                *cells(table.gain(row, metric))])
    return file.getvalue()


def draw_gains(table: Table, path: Path) -> None:
    """A PNG with a panel a detector: gains in AP for small, medium and large objects, the paper's
    as hollow bars, ours as filled ones, with the spread over seeds. Rows with GMConv only."""
    from matplotlib.figure import Figure
    detectors = list(dict.fromkeys(row.detector for row in table.paper))
    sizes = {'APS': 'small', 'APM': 'medium', 'APL': 'large'}
    colors = [f'C{number}' for number in range(10)]
    figure = Figure(figsize=(6.4 * len(detectors), 4.8), layout='constrained')
    panels = figure.subplots(1, len(detectors), sharey=True, squeeze=False)[0]
    for panel, detector in zip(panels, detectors):
        rows = [row for row in table.paper if row.detector == detector and row.has_gmconv]
        width = 0.8 / len(rows)
        for i, row in enumerate(rows):
            for j, metric in enumerate(sizes):
                x = j + (i - (len(rows) - 1) / 2) * width
                label = (f'{row.backbone[len("r50-"):]} over {row.baseline.backbone}'
                         if j == 0 else None)
                panel.bar(x, table.paper_gain(row, metric), width * 0.92, fill=False,
                          edgecolor=colors[i], linewidth=1.4, label=label)
                gain = table.gain(row, metric)
                if gain:
                    panel.bar(x, gain.mean, width * 0.5, color=colors[i], yerr=gain.spread or None,
                              capsize=2)
        panel.axhline(0, color='black', linewidth=0.8)
        panel.set_xticks(range(len(sizes)), sizes.values())
        panel.set_title(detector)
    panels[0].set_ylabel('gain in AP over the row\'s own baseline, points')
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=2, fontsize=8)
    title = f'Table {table.name}: hollow as printed in the paper, filled measured here'
    if table.rehearsal:
        title += '\nREHEARSAL: filled bars are no results'
    figure.suptitle(title, color='firebrick' if table.rehearsal else 'black')
    figure.savefig(path, dpi=120)


def write_report(table: Table, folder: Path) -> list[Path]:
    """Write ``table-<name>.md``, ``.csv`` and ``.png`` (``rehearsal-table-...`` for a rehearsal)
    into ``folder``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f'{"rehearsal-" if table.rehearsal else ""}table-{table.name}'
    paths = [folder / f'{stem}{suffix}' for suffix in ('.md', '.csv', '.png')]
    draw_gains(table, paths[2])
    paths[0].write_text(markdown(table, folder, paths[2].name), encoding='utf-8')
    paths[1].write_text(csv_text(table), encoding='utf-8')
    return paths
