"""Is a candidate's output right: its tokens and scores beside the reference's."""
