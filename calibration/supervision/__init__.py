"""One candidate's process: how it is started, asked within a deadline, watched and ended."""
