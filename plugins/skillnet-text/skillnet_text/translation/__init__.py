"""Translators: ``marian`` with a model on this machine, ``transmart`` over HTTP."""
