"""What results/hosts keeps of a host: its launches and verdicts, under names that tell no place on its machine."""
