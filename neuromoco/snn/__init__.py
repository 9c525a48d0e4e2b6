"""Layers of spiking networks: neurons, batch norm, convolutions of spikes, and the C kernels behind them."""
