"""The data sets that this plugin prepares from their publishers' files."""
