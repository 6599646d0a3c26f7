"""Training a supernet: strategies choose, the trainer trains, checkpoints keep."""
