"""`spiking.c` as WebAssembly. It is compiled beforehand and kept here, so that exporting needs no compiler."""
