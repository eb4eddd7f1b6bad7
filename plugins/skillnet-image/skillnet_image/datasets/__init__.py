"""The data sets that this plugin prepares."""
