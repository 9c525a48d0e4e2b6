"""Events in HDF5 files."""
