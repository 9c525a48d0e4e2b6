"""What chips hold of a network, chip by chip, and its operations and energy beside a network without spikes."""
