"""Assembles what runs for a prepared candidate: its engine, the front before it, and who watches the requests."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.engine.server import OwnServer, ServerPlace
from calibration.engine.streams import OneAfterAnother
from selector.demand.traffic import Traffic
from selector.model.files.gguf import has_chat_template
from selector.serve.adapt.adapter import Adapter, Told
from selector.serve.adapt.behind import Behind
from selector.serve.adapt.here import Options
from selector.serve.adapt.pace import Pace
from selector.serve.api.app import Settings, app
from selector.serve.keep.gate import Gate
from selector.serve.keep.keeper import Serving
from selector.serve.keep.silence import silence_of
from selector.serve.language.text import Text, read_text
from selector.serve.observers.metrics import Metrics, Served
from selector.serve.observers.request_log import RequestLog, Several
from selector.serve.own_server import OwnServerUpstream
from selector.serve.prepare import Prepared
from selector.serve.token_streams.engine import Launch, WorkerEngine
from selector.serve.token_streams.upstream import TokenUpstream
from selector.serve.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """An engine that can be started, and all that stands before it."""

    behind: Behind
    """The engine."""
    another: Callable[[Prepared], Behind]
    """The engine of another candidate of the same model, which may answer in its place."""
    app_for: Callable[[Gate], Any]
    metrics: Metrics
    traffic: Traffic

    @property
    def upstream(self) -> Upstream:
        return self.behind.upstream

    @property
    def serving(self) -> Serving:
        return self.behind.serving

    def adapter(
        self,
        prepared: Prepared,
        options: Options,
        pace: Pace,
        *,
        say: Callable[[str], None],
        on_restart: Callable[[str, float], None],
    ) -> Adapter:
        """What puts other engines in the place of this one.

        Args:
            prepared: this one.
            say, on_restart: see Told.
        """

        def switched(now: Prepared) -> None:
            self.metrics.now_serves(now.spec.label, str(now.selection.source), now.room.slots)

        told = Told(say=say, on_switch=switched, on_restart=on_restart)
        return Adapter(prepared, self.behind, another=self.another, options=options, told=told, pace=pace)


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
        log: takes what the engine prints; other engines have files beside it.
        log_requests: is told a line for each request; None: nobody is.
        hung_after_s: an engine that gives nothing for so long while requests run hangs; None: as is expected of it.

    Raises:
        ModelError: the tokenizer cannot be read.
    """
    selection, label = prepared.selection, prepared.spec.label
    text = read_text(prepared.subject.model_dir)
    traffic = Traffic(candidate=label)
    served = Served(model_name=names[0], candidate=label, source=str(selection.source), slots=prepared.room.slots)
    metrics = Metrics(served, traffic)
    observer = Several([metrics, RequestLog(log_requests)]) if log_requests else metrics
    named = {"name_token": text.vocabulary.token} if text else {}

    numbers = itertools.count(1)

    def app_for(gate: Gate) -> Any:
        settings = Settings(names=tuple(names), keys=tuple(keys))
        return app(gate, settings, metrics=metrics.exposition, observer=observer, why_not=gate.unavailable, **named)

    def behind(of: Prepared) -> Behind:
        number = next(numbers)
        own_log = log if number == 1 else log.with_name(f"{log.stem}-{number}{log.suffix}")
        return _behind(of, text, names[0], own_log, hung_after_s)

    return Assembled(
        behind=behind(prepared),
        another=behind,
        app_for=app_for,
        metrics=metrics,
        traffic=traffic,
    )


def _behind(prepared: Prepared, text: Text | None, name: str, log: Path, hung_after_s: float | None) -> Behind:
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
        return Behind(
            upstream=own,
            serving=own,
            silence=silence_of(prepared.selection, room, comes_whole=False, hung_after_s=hung_after_s),
            abilities=own.abilities,
            takes_text=True,  # a .gguf file brings its tokenizer, and the server of its engine reads it
            takes_chats=own.takes_chats,
            batching=lambda: own.batching,
        )
    launch = Launch(workers=prepared.workers, spec=prepared.spec, artifact_dir=prepared.artifact_dir, log=log)
    engine = WorkerEngine(launch)
    tokens = TokenUpstream(
        engine,
        text,
        context_tokens=room.context_tokens,
        vocab_size=subject.vocab_size,
        engine_name=title,
    )
    streams = backend.streams_type(prepared.variant)
    comes_whole = streams is OneAfterAnother
    return Behind(
        upstream=tokens,
        serving=engine,
        silence=silence_of(prepared.selection, room, comes_whole=comes_whole, hung_after_s=hung_after_s),
        abilities=streams.abilities,
        takes_text=text is not None,
        takes_chats=bool(text and text.takes_chats),
        batching=lambda: engine.batching,
    )


def _has_chat_template(model_dir: Path, text: Text | None) -> bool:
    """Whether an engine's own server finds one; where only it can read the tokenizer, it is for that server to say."""
    if model_dir.suffix == ".gguf":
        return has_chat_template(model_dir)
    return text is None or text.takes_chats


def _described(prepared: Prepared, place: ServerPlace) -> OwnServer:
    server = prepared.backend.own_server(prepared.variant, prepared.deployment, place)
    assert server is not None
    return server
