"""Settings: plain checked values. Nothing here knows how they are used."""

from recmia.settings.attacker import (
    AttackerSettings,
    Knowledge,
    KnowledgeSettings,
    MLPSettings,
    QueryKind,
    RankWeights,
)
from recmia.settings.audit import AnyAuditSettings, AuditSettings, FilesSettings, ForgetSettings
from recmia.settings.base import IN_MEMORY, ComposedSettings, Settings
from recmia.settings.data import GROUPINGS, Columns, DataSettings, GroupSettings
from recmia.settings.defences import FilesSystemSettings, PrivacySettings, SystemSettings
from recmia.settings.files import FILE_COLUMNS, FileNames, ForgettingSettings, named_columns
from recmia.settings.game import (
    AS_SERVED,
    FOLDING,
    SERVED_ALIKE,
    FilesGameSettings,
    GameSettings,
    Regime,
    ServingSettings,
    SplitUnit,
    Unit,
)
from recmia.settings.recommenders import (
    ALSSettings,
    BPRSettings,
    CommandSettings,
    EASESettings,
    HybridSettings,
    LightGCNSettings,
    NCFSettings,
    NeighbourSettings,
    RecommenderSettings,
    SGDSettings,
)
from recmia.settings.run import FilesRunSettings, RunSettings

__all__ = [
    "AS_SERVED",
    "FILE_COLUMNS",
    "FOLDING",
    "GROUPINGS",
    "IN_MEMORY",
    "SERVED_ALIKE",
    "ALSSettings",
    "AnyAuditSettings",
    "AttackerSettings",
    "AuditSettings",
    "BPRSettings",
    "Columns",
    "CommandSettings",
    "ComposedSettings",
    "DataSettings",
    "EASESettings",
    "FileNames",
    "FilesGameSettings",
    "FilesRunSettings",
    "FilesSettings",
    "FilesSystemSettings",
    "ForgetSettings",
    "ForgettingSettings",
    "GameSettings",
    "GroupSettings",
    "HybridSettings",
    "Knowledge",
    "KnowledgeSettings",
    "LightGCNSettings",
    "MLPSettings",
    "NCFSettings",
    "NeighbourSettings",
    "PrivacySettings",
    "QueryKind",
    "RankWeights",
    "RecommenderSettings",
    "Regime",
    "RunSettings",
    "SGDSettings",
    "ServingSettings",
    "Settings",
    "SplitUnit",
    "SystemSettings",
    "Unit",
    "named_columns",
]
