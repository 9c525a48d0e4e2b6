"""Events in array files: .npy, .npz and MATLAB."""
