"""Pages to look at: of a run, of several, of a prepared set."""
