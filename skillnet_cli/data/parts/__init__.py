"""The preparation engine: reads ranges into parts, in any number of processes, and puts the parts together."""
