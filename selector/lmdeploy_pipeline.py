"""pipeline(): lmdeploy.pipeline, with the engine chosen by what was measured where the caller names none."""

import importlib.util
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.cache.cache import Cache
from calibration.errors import BackendError, ModelError
from calibration.registry import all_backends
from selector import context as contexts
from selector.among import choose_among
from selector.answer import SelectionWarning
from selector.demand.demand import Demand
from selector.host.spec import HostSpec, Installation


def pipeline(
    model_path: str | Path,
    backend_config: Any = None,
    chat_template_config: Any = None,
    log_level: str = "WARNING",
    max_log_len: int | None = None,
    trust_remote_code: bool = False,
    speculative_config: Any = None,
    allowed_media_domains: list[str] | None = None,
    *,
    demand: Demand | None = None,
    cache: Cache | str | Path | None = None,
    host: HostSpec | None = None,
    **kwargs: Any,
) -> Any:
    """lmdeploy.pipeline(...), whose TurboMind or PyTorch engine is chosen by what was measured here.

    All arguments but the three below are those of lmdeploy.pipeline (LMDeploy 0.18) and are handed on as they are. A
    `backend_config` that is given is used as it is; it is never replaced by the other engine's. Without one, `select`
    chooses among LMDeploy's engines in this interpreter and warns of what its answer lacks (SelectionWarning). With a
    `speculative_config` it is the PyTorch engine, since TurboMind ignores that.

    Args:
        demand: what is wanted of the choice: workload, objective, targets, devices.
        cache, host: as for select.

    Returns:
        What lmdeploy.pipeline returns: lmdeploy.Pipeline.

    Raises:
        BackendError: LMDeploy is not installed in this interpreter, or it would run another engine than TurboMind
            where a TurbomindEngineConfig was given or chosen.
        IllegalBackend, NoLegalBackend: neither of its engines can run the model here; with every reason.
        ModelError: the model cannot be read, or is a shape, which has no text.
    """
    name = os.fspath(model_path)
    engines = tuple(name for name, backend in all_backends().items() if backend.facts.package == "lmdeploy")
    here = _with_this_interpreter(host or contexts.DEFAULT.host(), engines)
    if name.startswith("shape:"):
        raise ModelError(f"{name} has no tokenizer, which a pipeline needs", "name a folder or a hub id")
    if backend_config is None:
        wanted = Demand.of(demand)
        wanted = replace(wanted, trust_remote_code=trust_remote_code or wanted.trust_remote_code)
        able = tuple(engine for engine in engines if engine != "turbomind") if speculative_config else engines
        among = choose_among(model_path, wanted, able, program="LMDeploy", cache=cache, host=here)
        for sentence in filter(None, (*among.selection.warnings, among.warning)):
            warnings.warn(sentence, SelectionWarning, stacklevel=2)
        backend_config = among.selection.engine_config()
        trust_remote_code = wanted.trust_remote_code
    _require_that_turbomind_runs(name, backend_config, trust_remote_code)
    import lmdeploy

    return lmdeploy.pipeline(
        name,
        backend_config=backend_config,
        chat_template_config=chat_template_config,
        log_level=log_level,
        max_log_len=max_log_len,
        trust_remote_code=trust_remote_code,
        speculative_config=speculative_config,
        allowed_media_domains=allowed_media_domains,
        **kwargs,
    )


def _with_this_interpreter(host: HostSpec, engines: tuple[str, ...]) -> HostSpec:
    """The host with LMDeploy's engines in this interpreter, where they will run.

    Raises:
        BackendError: LMDeploy is not installed here.
    """
    installations = dict(host.installations)
    if importlib.util.find_spec("lmdeploy") is None:
        install = all_backends()[engines[0]].facts.install
        elsewhere = [
            str(installations[engine].python)
            for engine in engines
            if engine in installations and "lmdeploy" in installations[engine].versions
        ]
        raise BackendError(
            f"lmdeploy is not installed in this interpreter ({sys.executable})",
            f"run your program with {elsewhere[0]}" if elsewhere else f"install it here: {install}",
        )
    this = Path(sys.executable)
    ours = {
        engine: Installation.detect(this)
        for engine in engines
        if engine not in installations or installations[engine].python != this
    }
    return replace(host, installations={**installations, **ours}) if ours else host


def _require_that_turbomind_runs(model: str, backend_config: Any, trust_remote_code: bool) -> None:
    """LMDeploy runs its PyTorch engine where TurboMind cannot load its library or does not know the architecture.

    It only logs that (lmdeploy 0.18.0 archs.py, autoget_backend_config), and copies the fields that both engines have.

    Raises:
        BackendError: it would do so here.
    """
    import lmdeploy

    if not isinstance(backend_config, lmdeploy.TurbomindEngineConfig):
        return
    from lmdeploy import turbomind
    from lmdeploy.archs import autoget_backend

    if not turbomind.is_available():
        raise BackendError(
            f"TurboMind cannot run {model} here: its library cannot be loaded: {turbomind._import_error}",  # noqa: SLF001
            "give a PytorchEngineConfig for LMDeploy's other engine",
        )
    if autoget_backend(model, trust_remote_code=trust_remote_code) != "turbomind":
        raise BackendError(
            f"TurboMind of LMDeploy {lmdeploy.__version__} does not run {model}: it does not know the architecture",
            "give a PytorchEngineConfig for LMDeploy's other engine",
        )
