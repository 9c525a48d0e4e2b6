"""AEDAT 2.0, 3.1 and 4, of iniVation's and older cameras."""
