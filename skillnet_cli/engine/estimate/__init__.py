"""A look ahead at a stage: what it will do, take and need, before anything is trained."""
