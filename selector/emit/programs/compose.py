"""Docker Compose: a service that runs `autobackend serve`.

The fields stand in https://github.com/compose-spec/compose-spec, 05-services.md and deploy.md. That ${NAME:?why} must
be set, and that $$ is a dollar, stands in its 12-interpolation.md.
"""

from typing import Any

from selector.answer import Selection
from selector.emit.origin import dns_label, origin, served_name
from selector.emit.serve_words import ANYWHERE, KEY, STOP_S, serve_words, whole_path
from selector.emit.target import Emitted, Target
from selector.emit.yaml_text import yaml_text

PORT = 8000
MODEL = "/model"
"""Where a model of this machine is mounted."""
KEPT = "/var/lib/autobackend"
"""Where the container keeps its cache, and what it converts and downloads."""


def _write(selection: Selection) -> Emitted:
    place = whole_path(selection)
    inside = MODEL + (place.suffix if place.is_file() else "") if place else selection.model
    words = serve_words(selection, model=inside, host=ANYWHERE, port=str(PORT))
    volumes: list[Any] = [{"type": "volume", "source": "autobackend", "target": KEPT}]
    if place is not None:
        volumes.append({"type": "bind", "source": _escaped(str(place)), "target": inside, "read_only": True})
    service: dict[str, Any] = {
        "image": "${IMAGE:?an image with autobackend and the engine}",
        "command": [_escaped(word) for word in words],
        "ports": [f"127.0.0.1:{PORT}:{PORT}"],
        "environment": {
            KEY: f"${{{KEY}:?the key that requests must know}}",
            "AUTOBACKEND_CACHE": f"{KEPT}/cache.db",
            "AUTOBACKEND_ARTIFACTS": f"{KEPT}/artifacts",
            "HF_HOME": f"{KEPT}/huggingface",
        },
        "volumes": volumes,
        "healthcheck": {"test": ["CMD", "python3", "-c", _HEALTHY], "interval": "10s", "start_period": "10m"},
        "restart": "unless-stopped",
        "stop_grace_period": f"{STOP_S}s",
    }
    if selection.host.device.kind == "cuda":
        gpus = {"driver": "nvidia", "count": selection.demand.tensor_parallel, "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [gpus]}}}
    content = {"services": {dns_label(served_name(selection)): service}, "volumes": {"autobackend": {}}}
    return Emitted(
        text=origin(selection, TARGET.name) + yaml_text(content),
        notes=(f"set IMAGE to an image of yours with autobackend and {selection.backend}, and {KEY}",),
    )


_HEALTHY = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{PORT}/health')"


def _escaped(word: str) -> str:
    return word.replace("$", "$$")


TARGET = Target(name="compose", program="Docker Compose", what="a service that runs autobackend serve", write=_write)
