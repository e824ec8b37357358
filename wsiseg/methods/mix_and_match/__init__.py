"""Mix-and-match tuning by triplets of patches."""
