"""Processes that train together: how they find one another, divide the model, agree, and are missed."""
