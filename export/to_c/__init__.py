"""The target c: a folder of C99 that classifies events, for microcontrollers and all that has a compiler."""
