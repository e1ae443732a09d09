"""Assembles what runs for a prepared candidate: its engine, the front before it, and who watches the requests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.server import OwnServer, ServerPlace
from calibration.streams import OneAfterAnother
from selector.model.gguf import has_chat_template
from selector.serve.app import Settings, app
from selector.serve.engine import Launch, WorkerEngine
from selector.serve.gate import Gate
from selector.serve.keeper import Serving
from selector.serve.language.text import Text, read_text
from selector.serve.metrics import Metrics, Served
from selector.serve.own_server import OwnServerUpstream
from selector.serve.prepare import Prepared
from selector.serve.request_log import RequestLog, Several
from selector.serve.silence import silence_of
from selector.serve.tokens import TokenUpstream
from selector.serve.upstream import Upstream
from selector.serve.watch import Silence
from selector.traffic import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """An engine that can be started, and all that stands before it."""

    upstream: Upstream
    serving: Serving
    app_for: Callable[[Gate], Any]
    metrics: Metrics
    traffic: Traffic
    silence: Silence
    """For how long the engine may give nothing while requests run."""
    takes_text: bool
    """False: token ids only."""
    takes_chats: bool
    batching: Callable[[], str]
    """Streams.batching, once it is loaded."""


def assemble(
    prepared: Prepared,
    *,
    names: Sequence[str],
    keys: Sequence[str],
    log: Path,
    log_requests: Callable[[str], None] | None = None,
    hung_after_s: float | None = None,
) -> Assembled:
    """Everything but the start.

    Args:
        names: under which the model is asked for.
        log: takes what the engine prints.
        log_requests: is told a line for each request; None: nobody is.
        hung_after_s: an engine that gives nothing for so long while requests run hangs; None: as is expected of it.

    Raises:
        ModelError: the tokenizer cannot be read.
    """
    selection, label = prepared.selection, prepared.spec.label
    text = read_text(prepared.subject.model_dir)
    upstream, serving, batching = _engine(prepared, text, names[0], log)
    traffic = Traffic(candidate=label)
    served = Served(model_name=names[0], candidate=label, source=str(selection.source), slots=prepared.room.slots)
    metrics = Metrics(served, traffic)
    observer = Several([metrics, RequestLog(log_requests)]) if log_requests else metrics
    named = {"name_token": text.vocabulary.token} if text else {}

    def app_for(gate: Gate) -> Any:
        settings = Settings(names=tuple(names), keys=tuple(keys))
        return app(gate, settings, metrics=metrics.exposition, observer=observer, why_not=gate.unavailable, **named)

    is_own = isinstance(upstream, OwnServerUpstream)
    comes_whole = not is_own and prepared.backend.streams_type(prepared.variant) is OneAfterAnother
    return Assembled(
        upstream=upstream,
        serving=serving,
        app_for=app_for,
        metrics=metrics,
        traffic=traffic,
        silence=silence_of(selection, prepared.room, comes_whole=comes_whole, hung_after_s=hung_after_s),
        # A .gguf file brings its tokenizer, and the server of its engine reads it.
        takes_text=text is not None or isinstance(upstream, OwnServerUpstream),
        takes_chats=upstream.takes_chats
        if isinstance(upstream, OwnServerUpstream)
        else bool(text and text.takes_chats),
        batching=batching,
    )


def _engine(prepared: Prepared, text: Text | None, name: str, log: Path) -> tuple[Upstream, Serving, Callable[[], str]]:
    """The server that the engine brings, where it is the better one; else a worker of ours."""
    backend, room, subject = prepared.backend, prepared.room, prepared.subject
    title = backend.facts.title
    place = ServerPlace(
        port=0,
        served_name=name,
        slots=room.slots,
        context_tokens=room.context_tokens,
        threads=subject.threads,
        cpus=subject.cpus,
    )
    if backend.own_server(prepared.variant, prepared.deployment, place) is not None:
        own = OwnServerUpstream(
            lambda at: _described(prepared, at),
            name=title,
            place=place,
            python=prepared.spec.python,
            log=log,
            variables=prepared.spec.variables,
            vocab_size=subject.vocab_size,
            takes_chats=_has_chat_template(subject.model_dir, text),
            memory_limit_bytes=subject.memory_limit_bytes,
        )
        return own, own, lambda: own.batching
    launch = Launch(workers=prepared.workers, spec=prepared.spec, artifact_dir=prepared.artifact_dir, log=log)
    engine = WorkerEngine(launch)
    tokens = TokenUpstream(
        engine,
        text,
        context_tokens=room.context_tokens,
        vocab_size=subject.vocab_size,
        engine_name=title,
    )
    return tokens, engine, lambda: engine.batching


def _has_chat_template(model_dir: Path, text: Text | None) -> bool:
    """Whether an engine's own server finds one; where only it can read the tokenizer, it is for that server to say."""
    if model_dir.suffix == ".gguf":
        return has_chat_template(model_dir)
    return text is None or text.takes_chats


def _described(prepared: Prepared, place: ServerPlace) -> OwnServer:
    server = prepared.backend.own_server(prepared.variant, prepared.deployment, place)
    assert server is not None
    return server
