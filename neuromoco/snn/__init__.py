"""Layers of spiking networks: neurons, batch norm, convolutions of spikes, and their C kernels."""
