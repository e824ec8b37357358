"""The models that come along."""

from pathlib import Path

# Trained by pipelines/demo.toml on generated slides only: it shows how things work, and is good for nothing else.
DEMONSTRATION = Path(__file__).parent / "demonstration"
