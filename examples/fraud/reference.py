"""Learns what is usual of payments, into reference.json: a thousand days of the simulated world, as the demo plays it.

    python examples/fraud/reference.py

Of payments of your own, `headrace drift learn pipeline.py payments.parquet` does the same.
"""

import argparse

from headrace.examples.fraud.generator import World

from headrace.stream.drift import learned, to_be_learned

with to_be_learned() as wanted:
    from headrace.examples.fraud.pipeline import Transaction, pipeline

DAYS = 1_030  # of which the first thirty are left out: features fill up


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=DAYS)
    days = parser.parse_args().days
    world = World(customers=300, terminals=600, compromised_a_day=0, leaked_a_day=1)
    batches = ([Transaction(**one) for one in world.day(number).transactions()] for number in range(days))
    print(learned(pipeline, wanted[0], batches))


if __name__ == "__main__":
    main()
