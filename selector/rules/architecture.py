"""Rules about what an engine needs for some architectures: packages, fields of config.json, and what classes say."""

from collections.abc import Iterator, Mapping
from typing import Any

from calibration.config_json import ConfigJson, UnreadableField
from calibration.environments.distributions import normalise, requirement_name
from calibration.facts.needs import FieldFact
from selector.host.spec import Installation, Known
from selector.rules.combination import Combination
from selector.rules.install import install_command, lacking, meets, what_is
from selector.rules.installed.classes import without_flag
from selector.rules.installed.tables import lacks_config_class
from selector.rules.rule import Finding, backend_rule, variant_rule


@backend_rule
def architecture_packages(case: Combination) -> Finding:
    """The packages that the engine needs for this architecture are installed beside it."""
    facts, installation = case.facts, case.installation
    if installation.problem or normalise(facts.package) not in installation.versions:
        return None
    for fact in facts.architecture_packages:
        elsewhere = fact.devices and case.device.kind not in fact.devices
        if elsewhere or fact.architectures.isdisjoint(case.architecture_names):
            continue
        if unmet := lacking(fact.packages, installation):
            command = fact.install or "pip install " + " ".join(f'"{requirement}"' for requirement in unmet)
            text = f"needs {' and '.join(unmet)} for {case.model.architecture}; {what_is(unmet, installation)}"
            return text, install_command(installation, command)
    return None


@backend_rule
def config_fields(case: Combination) -> Finding:
    """config.json has the fields that the engine's own code reads and that nothing else fills in."""
    facts = [fact for fact in case.facts.config_fields if _concerns(fact, case)]
    try:
        config = _language_model(case) if facts else {}
    except UnreadableField:  # `own_limits` says it of every backend that reads config.json
        return None
    for fact in facts:
        if config and (missing := [field for field in fact.fields if not any(_values(config, field))]):
            written = " and ".join(field.replace("|", " or ") for field in missing)
            are = "it is" if len(missing) == 1 else "they are"
            text = f"needs {written} in config.json, which its own code reads; {are} not there"
            return (text, fact.mend) if fact.mend else text
        if null := next((field for field in fact.not_null if config.get(field, "") is None), None):
            text = f"needs another value than null as {null} in config.json, which its own code reads"
            return (text, fact.mend) if fact.mend else text
    return None


@variant_rule
def class_flag(case: Combination) -> Finding:
    """The model's class in transformers, and those of its parts, say that they have what the variant needs."""
    flag = case.variant.class_flag
    if flag is None or case.model.remote_code:
        return None
    try:
        name = without_flag(case, flag.name)
    except LookupError:
        name = case.model.architecture if case.model.architecture in flag.without else None
    return f"needs {flag.needed}; found {name}" if name else None


def _concerns(fact: FieldFact, case: Combination) -> bool:
    if fact.architectures.isdisjoint(case.architecture_names):
        return False
    if fact.without_class and (case.model.remote_code or lacks_config_class(case) is not True):
        return False
    return not fact.requirement or _is_there(fact.requirement, case.installation)


def _is_there(requirement: str, installation: Installation) -> bool:
    """A distribution is installed in such a version; of a machine that one does not hold the newest is assumed."""
    if installation.known is Known.ASSUMED:
        return True
    return meets(requirement, installation.versions.get(requirement_name(requirement)))


def _language_model(case: Combination) -> Mapping[str, Any]:
    """config.json; the fields of the language model inside go before its own. Empty beside a .gguf file."""
    return ConfigJson.read(case.model.folder).language_model().fields


def _values(config: Mapping[str, Any], field: str) -> Iterator[bool]:
    """For each of the alternatives `a.b|c`: there is a value."""
    for path in field.split("|"):
        value: Any = config
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        yield value is not None
