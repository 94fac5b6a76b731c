#!/usr/bin/env python
# SPDX-License-Identifier: MIT
"""Makes a model of tables: a scikit-learn decision tree that tells three kinds of iris apart.

    pip install 'simple-ml-serving[sklearn]' pandas
    python examples/iris.py                 # writes examples/models/iris/1/model.skops

The flowers are those that come with scikit-learn; a quarter of them is held out to say how often
the tree is right. Its columns are sepal and petal length and width in cm: sl, sw, pl, pw.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier
from skops.io import dump

COLUMNS = ["sl", "sw", "pl", "pw"]


def main(folder: Path) -> None:
    data = load_iris()
    rows = pandas.DataFrame(data.data, columns=COLUMNS)
    train, held_out, kinds, wanted = train_test_split(
        rows, data.target, test_size=0.25, random_state=0, stratify=data.target
    )
    tree = DecisionTreeClassifier(max_depth=3, random_state=0).fit(train, kinds)
    path = folder / "iris" / "1" / "model.skops"
    path.parent.mkdir(parents=True, exist_ok=True)
    dump(tree, path)
    names = ", ".join(f"{number} {name}" for number, name in enumerate(data.target_names))
    print(f"{path}: right for {tree.score(held_out, wanted):.0%} of {len(held_out)}; {names}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "models")
