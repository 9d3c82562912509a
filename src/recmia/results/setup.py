"""From settings to what they name: recommenders, attacks and defences, checked against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from recmia.attacks import ATTACKS, RULES, Attack, AttackSpec, InteractionAttack, PoolAttack, resolve_attack
from recmia.defences import Defence, System, check_defences, parse_defences
from recmia.errors import ConfigError
from recmia.forks import check_fork
from recmia.game.plan import Setup
from recmia.game.serving import check_servable
from recmia.recommenders.spec import RecommenderSpec, resolve_recommender
from recmia.settings import FOLDING, IN_MEMORY, AnyAuditSettings, AuditSettings, FilesSettings
from recmia.settings.attacker import AttackerSettings

AnyAttack = str | AttackSpec | Attack | PoolAttack | InteractionAttack
# Objects of the user's, by the names that the settings have for them.
Recommenders = Mapping[str, RecommenderSpec]
Attacks = Mapping[str, AttackSpec]
Defences = Mapping[str, Defence]
_NONE: Mapping[str, Any] = MappingProxyType({})


def resolve(
    settings: AnyAuditSettings,
    recommenders: Recommenders = _NONE,
    attacks: Attacks = _NONE,
    defences: Defences = _NONE,
) -> Setup:
    """Return the settings with what they name.

    Parameters
    ----------
    settings : AuditSettings or FilesSettings
    recommenders, attacks, defences : mapping
        Objects of the user's by name; all other names are looked up.

    Raises
    ------
    ConfigError
        For an unknown name, user code that does not import, and names that do not go together: a recommender that
        cannot serve a regime, a defence that does not apply, too few shadow models for an attack.
    """
    check_fork()
    found = dict(recommenders)
    files = isinstance(settings, FilesSettings)
    for name in (settings.shadow,) if files else (settings.target, settings.shadow):
        if name not in found:
            found[name] = resolve_recommender(name)
    chosen = tuple(attacks.get(name) or resolve_attack(name) for name in settings.attacker.attacks)
    _of_one_unit(chosen, settings)
    _enough_shadows(chosen, settings.attacker)
    _can_ask(chosen, settings)
    references = _references(chosen, settings)
    rules = tuple(ATTACKS[name] for name in RULES if _applies(ATTACKS[name], settings))
    shadow = found[settings.shadow]
    if isinstance(settings, AuditSettings):
        if settings.knowledge.known < 1 and settings.game.split == "shared":
            raise ConfigError(
                f"known = {settings.knowledge.known:g} means that the attacker knows a part of each audited history; "
                "with split = 'shared' its own users are the audited ones, with whole histories; take split = 'users'"
            )
        target = found[settings.target]
        acting = parse_defences(settings.system.defence, settings.system.dp, defences)
        for spec in {spec.name: spec for spec in (target, shadow)}.values():
            check_servable(spec.name, spec.folds_in, settings.regimes)
            used = spec.used(settings.recommenders)
            check_defences(acting, System(spec, used, settings.regimes, settings.k))
        setup = Setup(settings, target, shadow, (*chosen, *rules), acting, references)
        if setup.asks_prefixes and settings.attacker.query_share != AttackerSettings().query_share:
            raise ConfigError(
                f"query_share = {settings.attacker.query_share:g} is the share of a random part, and {target.name} is "
                "asked with prefixes of any length; take query_kind = parts, or leave query_share out"
            )
        return setup
    assert isinstance(settings, FilesSettings), "of files"
    check_servable(shadow.name, shadow.folds_in, [settings.game.regime])
    return Setup(settings, None, shadow, (*chosen, *rules), references=references)


def name_objects(
    recommenders: Mapping[str, Any], attacks: Sequence[AnyAttack] | None
) -> tuple[dict[str, str], Recommenders, list[str] | None, Attacks]:
    """Give names to objects that were passed in place of names.

    Parameters
    ----------
    recommenders : mapping of str to object
        For each role ("recommender", "shadow") a name, an object or None for none.
    attacks : sequence, optional

    Returns
    -------
    names : dict
        The name of each role that was given.
    recommenders : mapping
        The objects among them.
    attack_names : list of str, or None
    attacks : mapping
        The objects among them.
    """
    names, own = {}, {}
    for role, given in recommenders.items():
        if given is None:
            continue
        if isinstance(given, str):
            names[role] = given
            continue
        spec = resolve_recommender(given)
        if spec.name in own:
            # Two objects of one class: a name stands for one of them.
            spec = replace(spec, name=f"{spec.name.removesuffix(IN_MEMORY)}as {role} {IN_MEMORY}")
        names[role], own[spec.name] = spec.name, spec
    if attacks is None:
        return names, own, None, {}
    if isinstance(attacks, str):
        raise ConfigError(f"attacks must be a list of names or objects; got the text {attacks!r}: write [{attacks!r}]")
    attack_names, own_attacks = [], {}
    for one in attacks:
        if isinstance(one, str):
            attack_names.append(one)
            continue
        spec_of = resolve_attack(one)
        attack_names.append(spec_of.name)
        own_attacks[spec_of.name] = spec_of
    return names, own, attack_names, own_attacks


def in_memory(name: str) -> bool:
    """Tell whether a name stands for an object of the user's that was in memory."""
    return name.endswith(IN_MEMORY)


def _enough_shadows(attacks: Sequence[AttackSpec], attacker: AttackerSettings) -> None:
    needed = {spec.name: spec.min_shadows for spec in attacks if spec.needs == "pool"}
    short = [f"{name} needs {count}" for name, count in needed.items() if count > attacker.n_shadows]
    if short:
        raise ConfigError(
            f"too few shadow models: {', '.join(short)}; got {attacker.n_shadows}; raise n_shadows, or name other "
            "attacks"
        )


def _of_one_unit(attacks: Sequence[AttackSpec], settings: AnyAuditSettings) -> None:
    """Refuse attacks on users in an audit of interactions, and the other way round."""
    wrong = ", ".join(spec.name for spec in attacks if f"{spec.unit}s" != settings.unit)
    if wrong:
        fitting = ", ".join(
            name for name, spec in ATTACKS.items() if f"{spec.unit}s" == settings.unit and not spec.rule
        )
        raise ConfigError(f"{wrong}: cannot be run with unit = {settings.unit!r}; attacks for it: {fitting}")


def _applies(rule: AttackSpec, settings: AnyAuditSettings) -> bool:
    """Whether a rule is about the unit of the audit, and has what it uses: lists, or answers to whole histories."""
    if f"{rule.unit}s" != settings.unit:
        return False
    if rule.name == "absent" and not settings.serving.exclude_seen:
        return False
    if isinstance(settings, FilesSettings):
        return not rule.asks and bool(settings.files.lists or not rule.looks)
    assert isinstance(settings, AuditSettings), "of data or of files"
    return not rule.asks or (settings.attacker.queries > 0 and settings.knowledge.known == 1)


def _can_ask(attacks: Sequence[AttackSpec], settings: AnyAuditSettings) -> None:
    asking, looking = (", ".join(spec.name for spec in attacks if getattr(spec, does)) for does in ("asks", "looks"))
    if isinstance(settings, FilesSettings):
        with_shadows = ", ".join(spec.name for spec in attacks if spec.needs == "pool")
        if with_shadows and settings.unit == "interactions":
            raise ConfigError(
                f"{with_shadows}: needs shadow models of the system, which files do not hold; with unit = interactions "
                "take item-completion and item-reference"
            )
        if asking and not settings.files.answers:
            raise ConfigError(
                f"{asking}: asks the system, and there are only lists; write questions with recmia ask, and name "
                "questions and answers, or name attacks that only look at lists"
            )
        if looking and not settings.files.lists:
            raise ConfigError(
                f"{looking}: looks at the lists that users are shown, and there are only answers; name lists, too, or "
                "attacks that only ask: completion, completion-reference"
            )
        return
    if not asking:
        return
    if not settings.attacker.queries:
        raise ConfigError(f"{asking}: asks the system, and queries = 0 means that nothing is asked; raise queries")
    if set(FOLDING).isdisjoint(settings.regimes):
        raise ConfigError(
            f"{asking}: asks with histories of strangers, which are served only in {' and '.join(FOLDING)}; got "
            f"{', '.join(settings.regimes)}; add one of these regimes, or name attacks that only look at lists"
        )


def _references(attacks: Sequence[AttackSpec], settings: AnyAuditSettings) -> tuple[RecommenderSpec, ...]:
    needing = ", ".join(spec.name for spec in attacks if spec.needs == "references")
    if not needing or (isinstance(settings, FilesSettings) and settings.files.reference_answers):
        return ()
    if isinstance(settings, AuditSettings) and settings.game.split != "users" and settings.levels != ("black-box",):
        raise ConfigError(
            f"{needing}: compares with reference models, which must be trained on people who are not audited; with "
            f"split = {settings.game.split!r} there are none; take split = 'users', or name other attacks"
        )
    found = tuple(resolve_recommender(name) for name in settings.attacker.references)
    for spec in found:
        if not spec.folds_in:
            raise ConfigError(f"{spec.name} cannot be a reference model: it answers no stranger's history")
    return found
