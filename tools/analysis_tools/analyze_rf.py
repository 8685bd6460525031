"""Which layers of a configured network see the whole image already, and what to change.

    python tools/analysis_tools/analyze_rf.py CONFIG --size 256 320 --advise
    python tools/analysis_tools/analyze_rf.py CONFIG --annotations instances_train.json --picture rf.png
    python tools/analysis_tools/analyze_rf.py CONFIG --annotations instances_train.json --advise \
        --write-config NEW.py

Analyses the backbone and the neck without weights. See docs/receptive_field_analysis.md.
"""
from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import gmconv_mmdet.receptive_field.field_table as table
from gmconv_mmdet.openmmlab.config_file import read_config
from gmconv_mmdet.openmmlab.configured_size import configured_scale, configured_size
from gmconv_mmdet.receptive_field.advice.config_changes import advise_config
from gmconv_mmdet.receptive_field.advice.advise import recommended
from gmconv_mmdet.receptive_field.advice.written_config import write_config
from gmconv_mmdet.receptive_field.analyze import ReceptiveFieldError
from gmconv_mmdet.receptive_field.analyze_config import analyze_config
from gmconv_mmdet.receptive_field.field_picture import field_figure
from gmconv_mmdet.receptive_field.fpn_assignment import (boxes_beyond_field, resized_boxes,
                                                         roi_assignment)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of MMDetection, MMPretrain or this project')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'),
                        help="input in pixels; default: the config's test scale, padded")
    parser.add_argument('--checkpoint', help='weights, for the sizes that trained masks leave')
    parser.add_argument('--annotations', help='COCO file: which boxes exceed their level')
    parser.add_argument('--advise', action='store_true',
                        help='rank changes of the backbone, for the boxes if --annotations are given')
    parser.add_argument('--change', help='name of a change from the list, for --write-config')
    parser.add_argument('--write-config', metavar='OUT',
                        help='write the config with --change, else with what --advise recommends')
    parser.add_argument('--json', help='write everything to a JSON file')
    parser.add_argument('--picture', help='draw the network, coloured by status')
    parser.add_argument('--brief', action='store_true', help='do not print the table of layers')
    args = parser.parse_args()
    if args.change and not args.write_config or args.write_config and not (
            args.change or args.advise):
        parser.error('--write-config goes with --change or --advise, and --change with it')
    return args


def main() -> None:
    args = parse_args()
    cfg = read_config(args.config)
    size = tuple(args.size) if args.size else configured_size(cfg)
    if size is None:
        raise ValueError(f'{args.config} names no test scale: give --size H W')
    report, note = analyze_config(cfg, size, args.checkpoint)
    content, boxes = report.as_dict(), None
    print(table.summary(report) if args.brief else table.layer_table(report))
    print(f'\n{table.output_table(report.outputs)}')
    if note:
        print(f'\n{note}')
    if args.annotations:
        scale, keep_ratio = configured_scale(cfg) or (size[::-1], False)
        if args.size:
            scale, keep_ratio = size[::-1], True
        count, finest_scale = roi_assignment(cfg)
        levels = report.outputs[:count or len(report.outputs)]
        stages = [f for name, f in report.modules.items() if name.startswith('backbone[')]
        boxes = resized_boxes(args.annotations, scale, keep_ratio)
        rows = boxes_beyond_field(levels, stages, boxes, finest_scale)
        print(f'\n{table.level_table(rows)}')
        content['levels'] = [dict(level=r.level, boxes=r.boxes, beyond_field=r.beyond_field,
                                  beyond_stage=r.beyond_stage, beyond_effective=r.beyond_effective)
                             for r in rows]
    if args.advise or args.change:
        advice = advise_config(cfg, size, boxes)
        print(f'\n{table.advice_table(advice)}')
        content['advice'] = [dict(change=a.change.name, edits=a.change.edits,
                                  options=a.change.options, error=a.error,
                                  scores=a.scores and dict(asdict(a.scores), total=a.scores.total),
                                  report=a.report and a.report.as_dict()) for a in advice]
        best = recommended(advice)
        content['recommended'] = best and best.change.name
        if args.change:
            changes = {a.change.name: a for a in advice[1:] if a.report}
            if args.change not in changes:
                raise ValueError(f'no change {args.change!r}; there are {", ".join(changes)}')
            best = changes[args.change]
        if args.write_config:
            if best is None:
                print(f'nothing written to {args.write_config}')
            else:
                write_config(args.config, cfg, advice[0], best, args.write_config)
                print(f'\nwrote {args.write_config}')
    if args.json:
        Path(args.json).write_text(json.dumps(content, indent=1, default=str), encoding='utf-8')
    if args.picture:
        title = f'{Path(args.config).stem}, {size[0]} x {size[1]} px'
        field_figure(report, title).savefig(args.picture, dpi=110)


if __name__ == '__main__':
    try:
        main()
    except (ReceptiveFieldError, ValueError, OSError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
