"""The settings as typed keyword arguments of the public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from recmia.settings.attacker import ItemVectorSource, Knowledge, MLPSettings, QueryKind, RankWeights
from recmia.settings.data import Columns
from recmia.settings.defences import PrivacySettings
from recmia.settings.game import Regime, SplitUnit, Unit
from recmia.settings.recommenders import (
    ALSSettings,
    BPRSettings,
    CommandSettings,
    Device,
    EASESettings,
    GRU4RecSettings,
    HybridSettings,
    LightGCNSettings,
    NCFSettings,
    NeighbourSettings,
    SASRecSettings,
    SGDSettings,
)

# A table of settings, or its fields.
_Fields = Mapping[str, Any]


class CommonOptions(TypedDict, total=False):
    """What every kind of audit takes."""

    member_share: float
    alpha: float
    exclude_seen: bool
    k: int
    n_shadows: int
    blocks: int
    depth: int
    rank_weights: RankWeights
    thresholds: bool
    group_by: Sequence[str]
    users_table: str
    users_columns: str
    items_table: str
    seed: int
    factors: int
    device: Device
    mlp: MLPSettings | _Fields
    columns: Columns | _Fields
    lfm: SGDSettings | _Fields
    als: ALSSettings | _Fields
    bpr: BPRSettings | _Fields
    itemknn: NeighbourSettings | _Fields
    userknn: NeighbourSettings | _Fields
    ease: EASESettings | _Fields
    hybrid: HybridSettings | _Fields
    ncf: NCFSettings | _Fields
    lightgcn: LightGCNSettings | _Fields
    sasrec: SASRecSettings | _Fields
    gru4rec: GRU4RecSettings | _Fields
    train: CommandSettings | _Fields


class AuditOptions(CommonOptions, total=False):
    """What an audit of data takes; see `recmia.AuditSettings`."""

    min_interactions: int
    max_users: int
    split: SplitUnit
    unit: Unit
    regimes: Sequence[Regime]
    n_targets: int
    n_audited: int
    held_out: float
    dp: PrivacySettings | _Fields
    knowledge: Sequence[Knowledge]
    black_box_data: str
    known: float
    queries: int
    query_share: float
    query_kind: QueryKind
    references: Sequence[str]
    item_vectors: ItemVectorSource
    seeds: int


class FilesOptions(CommonOptions, total=False):
    """What an audit of files takes; see `recmia.FilesSettings`."""

    unit: Unit
    questions: str
    answers: str
    max_unanswered: float
    references: Sequence[str]
    reference_interactions: str
    reference_users: int
    reference_answers: str
    items: str
    members_columns: str
    lists_columns: str
    answers_columns: str
    items_columns: str
    shadow_interactions: str
    shadow_members: str
    shadow_lists: str
    pool_lists: str
    pool_members: str
    regime: Regime
    name: str


class ForgetOptions(FilesOptions, total=False):
    """What a test of forgetting takes; see `recmia.ForgetSettings`."""

    deleted_columns: str
    margin: float
