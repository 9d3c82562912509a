"""Train RecBole's SASRec on a log without the users who have member 0, and answer the questions of `recmia ask`.

    python recbole_sasrec.py LOG QUESTIONS ANSWERS

LOG is a Parquet file with user, item, time; QUESTIONS the folder of `recmia ask`; ANSWERS a Parquet file to write.
Needs recbole and polars.
"""

import sys
from pathlib import Path

import polars as pl
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed

LENGTH, K = 20, 50
SETTINGS = {
    "data_path": "recbole-data",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "MAX_ITEM_LIST_LENGTH": LENGTH,
    "n_layers": 1,
    "train_neg_sample_args": None,
    # Enough to show the way, and too few for a good model.
    "epochs": 2,
    # Everything is for training.
    "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": "none", "mode": "full"},
    "seed": 0,
}


def main(log_file, questions_folder, answers_file):
    left_out = pl.read_csv(Path(questions_folder) / "members.csv").filter(member=0)
    log = pl.read_parquet(log_file).filter(~pl.col("user").is_in(left_out["user"].implode()))
    folder = Path(SETTINGS["data_path"]) / "log"
    folder.mkdir(parents=True, exist_ok=True)
    names = {"user": "user_id:token", "item": "item_id:token", "time": "timestamp:float"}
    log.select(pl.col(old).alias(new) for old, new in names.items()).write_csv(folder / "log.inter", separator="\t")

    config = Config(model="SASRec", dataset="log", config_dict=SETTINGS)
    init_seed(config["seed"], reproducibility=True)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = get_model("SASRec")(config, train.dataset).to(config["device"])
    Trainer(config, model).fit(train, saved=False, verbose=False)

    # A question is a history in order, of which the model takes the last items. Number 0 is for padding.
    number = pl.col("item").cast(pl.String).replace_strict(dataset.field2token_id["item_id"], default=0)
    questions = pl.read_parquet(Path(questions_folder) / "questions.parquet").sort("query", "position")
    asked = questions.with_columns(number=number).filter(pl.col("number") > 0)
    asked = asked.group_by("query", maintain_order=True).agg("number")
    histories = torch.zeros(len(asked), LENGTH, dtype=torch.long)
    for row, items in enumerate(asked["number"].to_list()):
        histories[row, : len(items[-LENGTH:])] = torch.tensor(items[-LENGTH:])
    model.eval()
    with torch.no_grad():
        question = Interaction({"item_id_list": histories, "item_length": (histories > 0).sum(1)})
        scores = model.full_sort_predict(question.to(config["device"])).cpu()
    scores[:, 0] = -torch.inf
    for row, items in enumerate(asked["number"].to_list()):
        scores[row, items] = -torch.inf
    best = dataset.id2token("item_id", scores.topk(K).indices.numpy()).astype("int64")
    answers = pl.DataFrame({"query": asked["query"], "item": best.tolist()}).explode("item")
    answers.with_columns(rank=pl.int_range(1, pl.len() + 1).over("query")).write_parquet(answers_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
