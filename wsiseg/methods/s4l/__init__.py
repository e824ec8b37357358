"""Self-supervised semi-supervised learning: turns and stains as pretext tasks."""
