"""Matrix -> text: Markdown and one self-contained HTML page."""
