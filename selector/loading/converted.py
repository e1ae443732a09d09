"""What was converted for a selection, by a calibration or by an earlier load; or is converted now, in this process."""

import logging

from calibration.backend import Backend, Job
from calibration.conversion.artifact import Artifact, converted_key
from calibration.conversion.store import ArtifactStore
from selector.evidence.identity import converter_of
from selector.loading.choice import Choice
from selector.loading.weights import weights_identity
from selector.model.spec import ModelSpec

_LOG = logging.getLogger("autobackend")


def converted(choice: Choice, backend: Backend) -> Artifact | None:
    """What a calibration or an earlier load converted, with the version of the converter that is installed now."""
    wanted = converted_key(
        weights=weights_identity(choice.spec),
        candidate=choice.candidate,
        converter=converter(choice, backend),
        model="",
        prepared_as=backend.variant(choice.candidate.variant).prepared_as,
    )
    del wanted["model"]  # another name for the same weights will do
    found = [artifact for artifact in ArtifactStore().list() if wanted.items() <= artifact.key.items()]
    return max(found, key=lambda artifact: artifact.created_at, default=None)


def convert_here(choice: Choice, backend: Backend, spec: ModelSpec, job: Job) -> Artifact:
    """Convert in this process, under the key that a calibration's conversion has."""
    key = converted_key(
        weights=weights_identity(spec),
        candidate=choice.candidate,
        converter=converter(choice, backend),
        model=spec.name,
        prepared_as=job.variant.prepared_as,
    )
    return ArtifactStore().make(key, lambda destination: backend.prepare(job, destination, _LOG.info))


def converter(choice: Choice, backend: Backend) -> str:
    """Names and versions of all that converts for the chosen variant."""
    return converter_of(backend, backend.variant(choice.candidate.variant), choice.host)
