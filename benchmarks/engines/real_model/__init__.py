"""What every engine answers with a real model, and the checkpoints that this needs."""
