"""Count parameters and FLOPs of the models of Tables I and II and print them beside the paper's.

    python tools/analysis_tools/count_cost.py [--refconv]

With --refconv: what RefConv's configs hold in training and folded. Needs mmpretrain, no data.
"""
from __future__ import annotations

import argparse

from gmconv_mmdet.lab.benchmark.cost import cost_table, refocused_table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--refconv', action='store_true', help='RefConv instead of GMConv')
    print(refocused_table() if parser.parse_args().refconv else cost_table())


if __name__ == '__main__':
    main()
