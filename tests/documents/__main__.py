"""`python -m tests.documents` (`make docs`): write every generated part of README and docs anew."""

from tests.documents.generated import documents, renewed

for document in documents():
    document.write_text(renewed(document.read_text()))
