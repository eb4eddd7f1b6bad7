"""The world's files: archives, texts, tables, addresses."""
