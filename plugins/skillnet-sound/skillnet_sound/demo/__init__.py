"""The demo's data sets: Mandarin speech, synthesised where it is needed."""
