"""Trains other people's sequential recommenders for `sequential.py`, in the environment where they are installed.

Run as ``python sequential_peers.py NAME FOLDER``. It reads ``task.npz`` and ``settings.json`` from the folder, and
writes ``answer.npz``.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

Sequences = list[npt.NDArray[np.integer]]
K = 10


def rectools_sasrec(train: Sequences, queries: Sequences, settings: dict[str, Any], folder: Path) -> tuple[float, Any]:
    """Train RecTools' SASRec: seconds, and the lists."""
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    def dataset(sequences: Sequences) -> Dataset:
        lengths = [len(one) for one in sequences]
        columns = {"user_id": np.repeat(np.arange(len(sequences)), lengths), "item_id": np.concatenate(sequences)}
        place = np.concatenate([np.arange(n) for n in lengths])
        return Dataset.construct(pd.DataFrame({**columns, "weight": 1.0, "datetime": pd.to_datetime(place, unit="s")}))

    window = settings["window"]
    # Of a user, it keeps the last items alone: the windows that ours trains on are users of their own here.
    cut = [one[max(end - window - 1, 0) : end] for one in train for end in range(len(one), 1, -window)]
    model = SASRecModel(
        n_blocks=settings["layers"], n_heads=settings["heads"], n_factors=settings["factors"],
        dropout_rate=settings["dropout"], session_max_len=window, lr=settings["learning_rate"],
        batch_size=settings["batch_size"] // window, epochs=settings["epochs"], loss="softmax",
        recommend_torch_device="cpu",
    )  # fmt: skip
    data = dataset(cut)
    started = time.process_time()
    model.fit(data)
    seconds = time.process_time() - started
    table = model.recommend(np.arange(len(queries)), dataset(queries), K, filter_viewed=True)
    lists = np.full((len(queries), K), -1)
    lists[table["user_id"], table["rank"] - 1] = table["item_id"]
    return seconds, lists


def recbole_gru4rec(train: Sequences, queries: Sequences, settings: dict[str, Any], folder: Path) -> tuple[float, Any]:
    """Train RecBole's GRU4Rec: seconds, and the lists."""
    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.data.dataloader import TrainDataLoader
    from recbole.model.sequential_recommender import GRU4Rec
    from recbole.trainer import Trainer

    table = folder / "data" / "data.inter"
    table.parent.mkdir()
    rows = [f"{user}\t{item}\t{place}" for user, one in enumerate(train) for place, item in enumerate(one)]
    table.write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]))
    config = Config(
        model="GRU4Rec",
        dataset="data",
        config_dict={
            "data_path": str(folder), "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "use_gpu": False,
            "MAX_ITEM_LIST_LENGTH": settings["window"], "embedding_size": settings["factors"],
            "hidden_size": settings["factors"], "num_layers": settings["layers"], "dropout_prob": settings["dropout"],
            "loss_type": "CE", "train_neg_sample_args": None, "learning_rate": settings["learning_rate"],
            "train_batch_size": settings["batch_size"], "epochs": settings["epochs"], "seed": settings["seed"],
            "checkpoint_dir": str(folder), "show_progress": False,
        },
    )  # fmt: skip
    dataset = create_dataset(config)
    # All of it is trained on: each prefix of a sequence, up to the window, predicts the item that follows.
    dataset._change_feat_format()
    dataset.data_augmentation()
    torch.manual_seed(settings["seed"])
    model = GRU4Rec(config, dataset)
    loader = TrainDataLoader(config, dataset, None, shuffle=True)
    started = time.process_time()
    Trainer(config, model).fit(loader, saved=False, verbose=False)
    seconds = time.process_time() - started
    token_of = np.array([-1, *map(int, dataset.field2id_token["item_id"][1:])])
    place_of = np.zeros(max(int(one.max()) for one in [*train, *queries]) + 1, np.int64)
    place_of[token_of[1:]] = np.arange(1, len(token_of))
    lists = np.full((len(queries), K), -1)
    model.eval()
    for row, query in enumerate(queries):
        places = place_of[query]
        known = torch.from_numpy(places[places > 0][-settings["window"] :])
        with torch.no_grad():
            scores = model.full_sort_predict(
                {model.ITEM_SEQ: known[None], model.ITEM_SEQ_LEN: torch.tensor([len(known)])}
            )[0]  # fmt: skip
        scores[0] = scores[places] = -torch.inf
        lists[row] = token_of[scores.topk(K).indices.numpy()]
    return seconds, lists


PEERS: dict[str, Callable[[Sequences, Sequences, dict[str, Any], Path], tuple[float, Any]]] = {
    "rectools": rectools_sasrec,
    "recbole": recbole_gru4rec,
}


def main(name: str, folder: Path) -> None:
    """Do the task of the folder."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    task, settings = np.load(folder / "task.npz"), json.loads((folder / "settings.json").read_text())
    torch.manual_seed(settings["seed"])
    np.random.seed(settings["seed"])  # noqa: NPY002 - RecTools shuffles with it
    train, queries = (
        np.split(task[f"{part}_items"], task[f"{part}_ends"][:-1]) for part in ("train", "queries")
    )  # fmt: skip
    seconds, lists = PEERS[name](train, queries, settings, folder)
    np.savez(folder / "answer.npz", seconds=seconds, lists=lists)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
