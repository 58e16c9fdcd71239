"""The fleet room: one load by many machines, which Dask's scheduler knows."""
