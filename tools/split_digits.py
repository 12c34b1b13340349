"""Splits the optdigits table into a training and a test part with a header.

  split_digits.py digits.csv.gz train.csv test.csv

Every fifth of each class's rows, in a seeded order, goes into the test part.
"""

import collections
import csv
import gzip
import random
import sys

SEED = 1
TEST_FRACTION = 0.2


def read_rows(path):
    with gzip.open(path, "rt", newline="") as table:
        rows = [[int(float(cell)) for cell in row]
                for row in csv.reader(table) if row]
    for number, row in enumerate(rows, 1):
        if len(row) != 65 or not 0 <= row[64] <= 9:
            sys.exit(f"{path}: row {number}: expected 64 pixels and a digit, "
                     f"found {len(row)} cells")
    return rows


def write_rows(path, rows):
    with open(path, "w", newline="", encoding="ascii") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow([f"p{i}" for i in range(64)] + ["label"])
        writer.writerows(rows)


def main():
    source, train_path, test_path = sys.argv[1:]
    by_class = collections.defaultdict(list)
    for row in read_rows(source):
        by_class[row[64]].append(row)
    generator = random.Random(SEED)
    train, test = [], []
    for label in sorted(by_class):
        rows = by_class[label]
        generator.shuffle(rows)
        held_out = round(len(rows) * TEST_FRACTION)
        test += rows[:held_out]
        train += rows[held_out:]
    generator.shuffle(train)
    generator.shuffle(test)
    write_rows(train_path, train)
    write_rows(test_path, test)
    print(f"{len(train)} digits to train on, {len(test)} to test with")


if __name__ == "__main__":
    main()
