"""Count parameters and FLOPs of the models of Tables I and II and print them beside the paper's.

    python tools/count_cost.py

Needs mmpretrain, no data.
"""
import argparse

from gmconv_mmdet.reproduce.cost import cost_table


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(cost_table())


if __name__ == '__main__':
    main()
