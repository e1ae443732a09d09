"""Rules about the model: its architecture, its shapes, its code, and how far its positions reach."""

from calibration.config_json import ConfigJson, UnreadableField
from selector.host.spec import Known
from selector.rules.combination import Combination, any_of
from selector.rules.installed.releases import Releases, another_release
from selector.rules.installed.tables import Table, causal_model, config_class, own_table, quotes, seeing_model
from selector.rules.rule import Finding, backend_rule, variant_rule

_CAUSAL_SUFFIXES = ("ForCausalLM", "LMHeadModel")
_CHUNK_TOKENS = 8192
"""Of Llama 4 where its config does not say (transformers 5.23.0 models/llama4/configuration_llama4.py:159)."""


@backend_rule
def architecture(case: Combination) -> Finding:
    """The engine knows the model's architecture; where it is installed, its own table or its release decides."""
    model, facts, names = case.model, case.facts, _names(case)
    table, beside = own_table(case), _known_beside(case, names)
    needs_another = another_release(case, "architectures", names)
    if needs_another and table is None and beside is None:
        return needs_another
    for name in names:
        if name in facts.removed_architectures:
            removed = f"{name}: {facts.removed_architectures[name]}"
            return needs_another or f"needs an architecture that {facts.title} still has; {removed}"
    if beside is not None:
        if beside:
            return _found_wrong(case)
    elif table is not None:
        if _stands_in(table, case) or _brings_its_own(case):
            return _found_wrong(case)
    elif facts.architectures is None:
        if not facts.builds_causal_models or _may_be_causal(case):
            return _found_wrong(case)
    elif any(name in facts.architectures for name in names):
        return _found_wrong(case)
    written = " or ".join(names) or model.architecture or "no architecture"
    if facts.by_model_type and model.architecture not in names:
        written = f"model_type {model.model_type}"
    return needs_another or f"needs an architecture that {facts.title} knows; found {written}"


@backend_rule
def head_dim(case: Combination) -> Finding:
    """The engine has attention kernels for the model's head_dim."""
    dims = case.facts.head_dims
    if dims is None or case.model.head_dim in dims or "head_dim" in case.model.unknown:
        return None
    return f"needs head_dim {any_of(sorted(dims))}; found {case.model.head_dim}"


@backend_rule
def rope_type(case: Combination) -> Finding:
    """The engine computes the model's kind of rotary position embedding."""
    types = case.facts.rope_types
    if types is None or case.model.rope_type in types or case.model.rope_type == "none":
        return None
    return f"needs rope type {any_of(sorted(types))}; found {case.model.rope_type}"


@backend_rule
def sliding_window(case: Combination) -> Finding:
    """Where the engine does not honour the model's sliding window, the workload stays inside it."""
    window, tokens = case.model.sliding_window, case.demand.workload.context_tokens
    if window is None or honours_window(case) or tokens <= window:
        return None
    text = f"needs at most {window} tokens a sequence, since it does not honour the sliding window; found {tokens}"
    return f"{text} ({case.demand.workload.label})", _shorter(window)


@backend_rule
def attention_chunks(case: Combination) -> Finding:
    """Where the engine attends beyond the chunks of a model that attends inside them, the workload fits into one."""
    tokens = case.demand.workload.context_tokens
    try:
        chunk = unheeded_chunk(case)
    except UnreadableField as error:
        return str(error)
    if chunk is None or tokens <= chunk:
        return None
    text = f"needs at most {chunk} tokens a sequence, since it does not attend in chunks; found {tokens}"
    return f"{text} ({case.demand.workload.label})", _shorter(chunk)


@backend_rule
def vision(case: Combination) -> Finding:
    """A model with a vision part goes only to an engine that writes text with it, be that part left out."""
    if not case.model.vision or case.facts.vision != "text only":
        return None
    return f"needs a model without a vision part; found one in {case.model.architecture}"


@backend_rule
def context_length(case: Combination) -> Finding:
    """Prompt and output together are no longer than the model's positions reach."""
    tokens, most = case.demand.workload.context_tokens, case.model.max_position
    if most <= 0 or tokens <= most:
        return None
    text = f"needs at most {most} tokens a sequence, the model's positions; found {tokens}"
    return f"{text} ({case.demand.workload.label})", _shorter(most)


@backend_rule
def remote_code(case: Combination) -> Finding:
    """Code of the model's repository runs only where the user permits it, and only in an engine that can run it."""
    if not case.model.remote_code:
        return None
    if not case.facts.remote_code:
        return f"needs a model without code of its own; {case.model.architecture} is loaded by code of its repository"
    if case.demand.trust_remote_code:
        return None
    return "needs permission to run the repository's code; not given", "--trust-remote-code"


@variant_rule
def own_limits(case: Combination) -> Finding:
    """The backend itself knows no further reason why it cannot run the model right."""
    try:
        reasons = list(case.backend.fits(case.model, case.variant, case.device))
        if case.demand.tensor_parallel > 1:
            reasons += case.backend.divides(case.model, case.demand.tensor_parallel, case.device)
        return reasons
    except UnreadableField as error:  # a config.json may hold anything
        return str(error)


def honours_window(case: Combination) -> bool:
    """The engine keeps to the sliding window of this architecture."""
    known = case.facts.windowed_architectures
    return known is None or case.model.architecture in known


def unheeded_chunk(case: Combination) -> int | None:
    """Tokens of the chunks that the model attends inside, where the engine does not; None where none matters.

    Raises:
        UnreadableField: config.json holds something else than its names promise.
    """
    if case.model.architecture not in case.facts.unchunked_architectures:
        return None
    config = ConfigJson.read(case.model.folder).language_model()
    kinds, chunk = config.rows("layer_types"), config.whole("attention_chunk_size", _CHUNK_TOKENS)
    chunked = not kinds or "chunked_attention" in kinds
    return chunk if chunked and 0 < chunk < (case.model.max_position or chunk + 1) else None


def is_tried(case: Combination) -> bool:
    """Whether somebody compared the output of this architecture in this engine; where nobody keeps count, it counts as
    tried.
    """
    tried = case.facts.tried
    return tried is None or any(name in tried for name in _names(case))


def table_unread(case: Combination) -> bool:
    """Whether the engine's own table alone tells which architectures it knows, and it is not here to be read."""
    facts = case.facts
    decides = facts.architectures_table is not None and facts.architectures is None
    return decides and case.installation.known is not Known.SEEN and own_table(case) is None


def _names(case: Combination) -> tuple[str, ...]:
    """The names by which the engine looks for the model's architecture; any of them is enough."""
    if case.facts.by_model_type:
        return (causal_model(case) or case.model.architecture,)
    return case.architecture_names


def _known_beside(case: Combination, names: tuple[str, ...]) -> bool | None:
    """Whether what lies beside the interpreter has one of these names; None where nothing there tells."""
    if case.installation.known is not Known.SEEN:
        return None
    told = [case.backend.knows(name, case.installation.python) for name in names]
    return None if not told or None in told else any(told)


def _stands_in(table: Table, case: Combination) -> bool:
    """Whether the engine's own table has the model's architecture."""
    if not case.facts.by_model_type:
        return any(quotes(table, name) for name in _names(case))
    causal = causal_model(case)
    if causal is None:
        return False
    if case.facts.builds_causal_models:
        # Of a model that sees, its language model is built. An encoder's own class has no such weights.
        named = case.model.architecture
        return named.endswith(_CAUSAL_SUFFIXES) or named in {causal, seeing_model(case)}
    name = config_class(case)
    return name is not None and quotes(table, name)


def _brings_its_own(case: Combination) -> bool:
    """Whether code of the model's repository has the class that is built; whether it may run is for `remote_code`."""
    facts, model = case.facts, case.model
    named = model.auto_architecture is not None or not facts.builds_causal_models
    return facts.remote_code and model.remote_code and named


def _may_be_causal(case: Combination) -> bool:
    """Whether AutoModelForCausalLM of some release builds such a model, where none is there to be read."""
    named, file = case.model.architecture, case.facts.releases
    known = Releases.of(file).architectures if file else {}
    inner = named.replace("ForConditionalGeneration", "ForCausalLM") if case.model.vision else named
    return _brings_its_own(case) or named.endswith(_CAUSAL_SUFFIXES) or named in known or inner in known


def _found_wrong(case: Combination) -> Finding:
    """Why not, although the engine has the architecture."""
    facts = case.facts
    named = (case.model.architecture,) if facts.builds_causal_models else ()
    for name in (*_names(case), *named):
        if name in facts.wrong_architectures:
            wrong = f"{name}: {facts.wrong_architectures[name]}"
            return f"needs an architecture that {facts.title} runs right; {wrong}"
    return None


def _shorter(tokens: int) -> str:
    return f"choose a --workload of at most {tokens} tokens, prompt and output together"
