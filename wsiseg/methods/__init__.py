"""Learning methods, one readable file each."""
