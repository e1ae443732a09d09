"""read_hub: config, index and file sizes of a model on the Hugging Face hub, from its cache where they are there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from calibration.errors import ModelError
from selector.model.files.weights import BESIDE, INDEXES, is_weights

TIMEOUT_S: Final = 10.0

_ID: Final = re.compile(r"(?:\w(?:[\w.-]{0,94}\w)?/)?\w(?:[\w.-]{0,94}\w)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The small files of a repository, here."""

    folder: Path
    """Named after the commit."""
    sizes: Mapping[str, int]
    """Of the files that the hub has; empty where it was not asked."""


def is_hub_id(model: str) -> bool:
    """Whether this is `owner/name`, or the `name` of the oldest models.

    >>> is_hub_id('Qwen/Qwen3-8B'), is_hub_id('gpt2'), is_hub_id('./model')
    (True, True, False)
    """
    plain = len(model) <= 96 and bool(_ID.fullmatch(model))
    return plain and ".." not in model and "--" not in model and not model.endswith(".git")


def read_hub(model: str) -> Snapshot:
    """Fetch config.json, the files beside it that declare a quant format, and the weights index; never weights.

    The network is not used where huggingface_hub's cache has config.json and tells the size of the weights, nor with
    HF_HUB_OFFLINE.

    Raises:
        ModelError: no such repository, no access, or no network and nothing in the cache.
    """
    import huggingface_hub  # takes a third of a second, which only a hub id costs
    from huggingface_hub import constants, errors

    cached = huggingface_hub.try_to_load_from_cache(model, "config.json")
    folder = Path(cached).parent if isinstance(cached, str) else None
    if folder and any(name in INDEXES or is_weights(name) for name in (path.name for path in folder.iterdir())):
        return Snapshot(folder=folder, sizes={})
    if constants.HF_HUB_OFFLINE:
        if folder:
            return Snapshot(folder=folder, sizes={})
        raise ModelError(
            f"there is no folder {model!r} here, it is not in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set",
            "give the folder of a model, unset HF_HUB_OFFLINE, or name a shape: shape:qwen2.5-0.5b",
        )
    try:
        repository = huggingface_hub.HfApi().model_info(model, files_metadata=True, timeout=TIMEOUT_S)
        sizes = {file.rfilename: file.size or 0 for file in repository.siblings or ()}
        if "config.json" not in sizes:
            raise ModelError(f"{model} on the hub has no config.json", "give a model in transformers' format")
        for name in ("config.json", *BESIDE, *INDEXES):
            if name in sizes:
                folder = Path(huggingface_hub.hf_hub_download(model, name)).parent
    except errors.GatedRepoError:
        raise ModelError(f"{model} is gated on the hub", "ask for access there, then: hf auth login") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"there is no folder {model!r} here and no model {model!r} on the hub (or it is private)",
            "check the name; for a private model: hf auth login",
        ) from None
    except (OSError, ValueError, errors.HfHubHTTPError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        if folder:
            return Snapshot(folder=folder, sizes={})
        first_line = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"there is no folder {model!r} here, and the hub cannot be reached: {first_line}",
            "give the folder of a model, connect to the network, or name a shape: shape:qwen2.5-0.5b",
        ) from None
    assert folder is not None
    return Snapshot(folder=folder, sizes=sizes)
