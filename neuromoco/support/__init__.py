"""What every room uses: files, the console, optional packages, the device, curves."""
