"""How prepared sets are made from what publishers and users have."""
