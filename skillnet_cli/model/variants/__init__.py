"""What a configuration may choose instead of the paper's encoder: one variant a file, put together by build.py."""
