"""The matrix as pages: Markdown, and one HTML page."""
