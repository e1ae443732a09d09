"""The compatibility and performance matrix of all hosts, as Markdown and as a page."""
