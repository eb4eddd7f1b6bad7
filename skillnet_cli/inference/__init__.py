"""Using a trained model: vectors of sources, transcripts of recordings, collections to search."""
