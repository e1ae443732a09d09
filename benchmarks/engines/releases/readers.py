"""Where each engine tells what it has, in every layout of its releases: one function an engine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engines.releases.definitions import ancestors, compared, registered, returned_by
from benchmarks.engines.releases.metadata import Members, requirements
from benchmarks.engines.releases.source import Lines, Source, UnknownLayout, mentioned_under, names_in_code
from benchmarks.engines.releases.spans import Contents, Sources
from benchmarks.engines.releases.tables import defines, keys, strings, values

_BACKENDS = Path(__file__).resolve().parents[3] / "calibration" / "backends"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How the releases of one engine are read."""

    backend: str
    distribution: str
    since: str
    """The oldest release that is read."""
    file: Path
    """Where the result goes: beside the backend."""
    members: tuple[str, ...]
    """Patterns of the files that `read` looks at, those of all layouts."""
    read: Callable[[Members], Contents]
    source: bool = False
    """What is looked for is in the source distribution alone."""
    every: int = 1
    """Of the releases between the oldest and the newest, each how manieth is read."""
    confirmed: frozenset[str] = frozenset()
    """Architectures that were removed in some release whose code names them still; somebody has looked."""
    hashes: Path | None = None
    """Where the hashes of source distributions go, of which users fetch files."""
    hashes_since: str = ""
    """The oldest release of which they do."""


def read_turbomind(members: Members) -> Contents:
    """SUPPORTED_ARCHS, and the methods that the converter takes: in deploy/ before it was rewritten."""
    table = _source(members, "lmdeploy/turbomind/supported_models.py")
    converter = _source(members, "lmdeploy/turbomind/converter.py", "lmdeploy/turbomind/deploy/converter.py")
    return Contents(
        architectures=_located(table, keys(table, "SUPPORTED_ARCHS")),
        quant_methods=_located(converter, compared(converter, "quant_method", "get_tm_config", "get_tm_model")),
        requirements=requirements(members),
        mentioned=names_in_code(table),
    )


def read_pytorch(members: Members) -> Contents:
    """MODULE_MAP, and the methods of QuantizationConfig, or before it was there those for which layers are built."""
    table = _source(members, "lmdeploy/pytorch/models/module_map.py")
    config = _source(members, "lmdeploy/pytorch/config.py")
    if "QuantizationConfig" in config.classes:
        quants = _located(config, compared(config, "quant_method", "from_config"))
    else:
        linear = _source(members, "lmdeploy/pytorch/nn/linear/__init__.py", "lmdeploy/pytorch/nn/linear.py")
        quants = _located(linear, compared(linear, "quant_method", "build_linear"))
    removed = keys(table, "REMOVED_MODEL_MAP") if defines(table, "REMOVED_MODEL_MAP") else {}
    return Contents(
        architectures=_located(table, keys(table, "MODULE_MAP")),
        quant_methods=quants,
        requirements=requirements(members),
        gone=frozenset(removed),
        mentioned=names_in_code(table),
    )


def read_transformers(members: Members) -> Contents:
    """The classes of AutoModelForCausalLM, and the quantizers."""
    table = _source(members, "transformers/models/auto/modeling_auto.py")
    quantizers = _source(members, "transformers/quantizers/auto.py")
    causal = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
    return Contents(
        architectures=_located(table, values(table, causal)),
        quant_methods=_located(quantizers, keys(quantizers, "AUTO_QUANTIZER_MAPPING")),
        requirements=requirements(members),
        # A class that became one for another task stands in that task's table.
        gone=mentioned_under(table, "MODEL_*_MAPPING_NAMES", but=causal),
        mentioned=names_in_code(table),
    )


def read_vllm(members: Members) -> Contents:
    """The tables of models that write text, and the list of methods, which became a Literal."""
    table = _source(members, "vllm/model_executor/models/registry.py")
    quantization = _source(members, "vllm/model_executor/layers/quantization/__init__.py")
    literal = defines(quantization, "QuantizationMethods")
    quants = strings(quantization, "QuantizationMethods" if literal else "QUANTIZATION_METHODS")
    # Later releases run some by transformers' own classes, and list those in a table of their own.
    by_transformers = "_TRANSFORMERS_SUPPORTED_MODELS"
    lines = keys(table, by_transformers) if defines(table, by_transformers) else {}
    lines |= keys(table, "_MULTIMODAL_MODELS") | keys(table, "_TEXT_GENERATION_MODELS")
    return Contents(
        architectures=_located(table, lines),
        quant_methods=_located(quantization, quants),
        requirements=requirements(members),
        # Models that embed, rank or draft, and those that it had once.
        gone=mentioned_under(
            table, "_EMBEDDING_MODELS", "_*_CLASSIFICATION_MODELS", "_CROSS_ENCODER_MODELS", "_REWARD_MODELS",
            "_SPECULATIVE_DECODING_MODELS", "_PREVIOUSLY_SUPPORTED_MODELS", "_OOT_SUPPORTED_MODELS",
        ),
        mentioned=names_in_code(table),
    )  # fmt: skip


def read_llamacpp(members: Members) -> Contents:
    """llama.cpp's converter: a table of text models in conversion/, before that decorators in one file."""
    folder = "thirdparty/llama.cpp/"
    if f"{folder}conversion/__init__.py" in members:
        table = _source(members, f"{folder}conversion/__init__.py")
        return Contents(
            architectures=_located(table, keys(table, "TEXT_MODEL_MAP")),
            requirements=requirements(members),
            gone=mentioned_under(table, "MMPROJ_MODEL_MAP"),
            mentioned=names_in_code(table),
        )
    table = _source(members, f"{folder}convert_hf_to_gguf.py")
    texts: Lines = {}
    others = set[str]()
    for model_class, names in registered(table, "Model.register", "ModelBase.register"):
        if {"MmprojModel", "VisionModel"} & {*ancestors(table, model_class)}:
            others |= names.keys()
        else:
            texts = names | texts
    return Contents(
        architectures=_located(table, texts),
        requirements=requirements(members),
        gone=frozenset(others),
        mentioned=names_in_code(table),
    )


def read_onnxruntime(members: Members) -> Contents:
    """The architectures between which the model builder chooses."""
    builder = _source(members, "onnxruntime_genai/models/builder.py")
    return Contents(
        architectures=_located(builder, compared(builder, "config.architectures[0]", "create_model")),
        requirements=requirements(members),
        mentioned=names_in_code(builder),
    )


def read_ctranslate2(members: Members) -> Contents:
    """The classes of the registered loaders; a loader for AutoModelForCausalLM is named after its configuration."""
    table = _source(members, "ctranslate2/converters/transformers.py")
    lines: Lines = {}
    for loader, names in registered(table, "register_loader"):
        classes = [loader, *(table.classes[name] for name in ancestors(table, loader) if name in table.classes)]
        architecture = next(filter(None, (returned_by(of, "architecture_name") for of in classes)), None)
        if architecture is None:
            raise table.unknown(loader, "needs a loader with an architecture_name")
        for name, line in names.items():
            own = (
                f"{name.removesuffix('Config')}ForCausalLM" if architecture == "AutoModelForCausalLM" else architecture
            )
            lines.setdefault(own, line)
    if not lines:
        raise table.lacks("loaders under register_loader")
    return Contents(
        architectures=_located(table, lines), requirements=requirements(members), mentioned=names_in_code(table)
    )


def read_optimum_intel(members: Members) -> Contents:
    """The types of models that it exports for OpenVINO as writers of text; it knows no class names.

    A type is written with a hyphen in older releases and as config.json has it in newer ones.
    """
    table = _source(members, "optimum/exporters/openvino/model_configs.py")
    texts: Lines = {}
    others = set[str]()
    for _, strings_given in registered(table, "register_in_tasks_manager"):
        (name, line), *tasks = strings_given.items()
        if {"text-generation", "text-generation-with-past"} & {task for task, _ in tasks}:
            texts.setdefault(name.replace("-", "_"), line)
        else:
            others.add(name.replace("-", "_"))
    return Contents(
        architectures=_located(table, texts),
        requirements=requirements(members),
        gone=frozenset(others),
        mentioned=frozenset(name.replace("-", "_") for name in names_in_code(table)),
    )


READERS = (
    Reader(
        backend="turbomind",
        distribution="lmdeploy",
        since="0.6.0",
        file=_BACKENDS / "turbomind" / "releases.json",
        members=("lmdeploy/turbomind/supported_models.py", "lmdeploy/turbomind/converter.py",
                 "lmdeploy/turbomind/deploy/converter.py"),
        read=read_turbomind,
    ),
    Reader(
        backend="pytorch",
        distribution="lmdeploy",
        since="0.6.0",
        file=_BACKENDS / "pytorch" / "releases.json",
        members=("lmdeploy/pytorch/models/module_map.py", "lmdeploy/pytorch/config.py",
                 "lmdeploy/pytorch/nn/linear.py", "lmdeploy/pytorch/nn/linear/__init__.py"),
        read=read_pytorch,
    ),
    Reader(
        backend="transformers",
        distribution="transformers",
        since="4.45.0",
        file=_BACKENDS / "transformers" / "releases.json",
        members=("transformers/models/auto/modeling_auto.py", "transformers/quantizers/auto.py"),
        read=read_transformers,
    ),
    Reader(
        backend="vllm",
        distribution="vllm",
        since="0.8.0",
        file=_BACKENDS / "vllm" / "releases.json",
        members=("vllm/model_executor/models/registry.py", "vllm/model_executor/layers/quantization/__init__.py"),
        read=read_vllm,
    ),
    Reader(
        backend="llamacpp",
        distribution="xllamacpp",
        since="0.2.2",
        file=_BACKENDS / "llamacpp" / "releases.json",
        members=("thirdparty/llama.cpp/conversion/__init__.py", "thirdparty/llama.cpp/convert_hf_to_gguf.py"),
        read=read_llamacpp,
        source=True,
        hashes=_BACKENDS / "llamacpp" / "sources.json",
        hashes_since="2026.10",
    ),
    Reader(
        backend="onnxruntime",
        distribution="onnxruntime-genai",
        since="0.4.0",
        file=_BACKENDS / "onnxruntime" / "releases.json",
        members=("onnxruntime_genai/models/builder.py",),
        read=read_onnxruntime,
    ),
    Reader(
        backend="ctranslate2",
        distribution="ctranslate2",
        since="4.0.0",
        file=_BACKENDS / "ctranslate2" / "releases.json",
        members=("ctranslate2/converters/transformers.py",),
        read=read_ctranslate2,
    ),
    Reader(
        backend="openvino",
        distribution="optimum-intel",
        since="1.20.0",
        file=_BACKENDS / "openvino" / "releases.json",
        members=("optimum/exporters/openvino/model_configs.py",),
        read=read_optimum_intel,
    ),
)  # fmt: skip


def _source(members: Members, *paths: str) -> Source:
    """The first of these files that the release has."""
    for path in paths:
        if path in members:
            return Source.of(path, members[path])
    raise UnknownLayout(
        f"needs {' or '.join(paths)}; the release has neither" if len(paths) > 1 else f"needs {paths[0]}; found none",
        "teach benchmarks/engines/releases/readers.py where this release has it",
    )


def _located(source: Source, lines: Lines) -> Sources:
    return {name: f"{source.path}:{line}" for name, line in lines.items()}
