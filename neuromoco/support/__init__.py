"""What the whole package uses: files, the console, optional packages, devices, figures."""
