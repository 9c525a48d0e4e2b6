"""Events as cameras, programs and networks send them, answered as they come."""
