"""Measuring a trained model: each objective's protocol, the metrics, the report of a run."""
