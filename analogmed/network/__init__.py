"""What holds for any torch network: its layers, its products, and whether it fits a task."""
