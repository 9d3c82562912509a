"""Train Spark's ALS on a log without the users who have member 0, and answer the questions of `recmia ask`.

    python spark_als.py LOG QUESTIONS ANSWERS

LOG is a Parquet file with user, item, rating; QUESTIONS the folder of `recmia ask`; ANSWERS a Parquet file to write.
Needs pyspark, pandas and pyarrow.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession

FACTORS, ALPHA, REGULARISATION, K = 32, 10.0, 0.05, 50


def solve(vectors, ratings, gram):
    """The vector of a stranger with these items: what ALS itself would find (Hu, Koren and Volinsky 2008, eq. 4)."""
    more = ALPHA * ratings
    left = gram + (vectors.T * more) @ vectors + REGULARISATION * len(vectors) * np.eye(FACTORS)
    return np.linalg.solve(left, vectors.T @ (1 + more))


def main(log_file, questions_folder, answers_file):
    spark = SparkSession.builder.getOrCreate()
    members = spark.read.csv(str(Path(questions_folder) / "members.csv"), header=True, inferSchema=True)
    log = spark.read.parquet(log_file).join(members.filter("member = 0"), "user", "left_anti")
    model = ALS(
        rank=FACTORS, implicitPrefs=True, alpha=ALPHA, regParam=REGULARISATION, seed=0,
        userCol="user", itemCol="item", ratingCol="rating",
    ).fit(log)  # fmt: skip

    # What the users of the fit are shown: user, and an array of item and score.
    model.recommendForAllUsers(K).write.mode("overwrite").parquet("lists.parquet")

    factors = model.itemFactors.toPandas().sort_values("id")
    items, vectors = factors["id"].to_numpy(), np.stack(factors["features"].to_numpy())
    gram = vectors.T @ vectors
    questions = pd.read_parquet(Path(questions_folder) / "questions.parquet")
    answers = []
    for query, asked in questions[questions["item"].isin(items)].groupby("query"):
        seen = np.searchsorted(items, asked["item"])
        scores = vectors @ solve(vectors[seen], asked["rating"].to_numpy(), gram)
        scores[seen] = -np.inf
        best = items[np.argsort(-scores)[:K]]
        answers.append(pd.DataFrame({"query": query, "item": best, "rank": np.arange(1, K + 1)}))
    pd.concat(answers).to_parquet(answers_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
