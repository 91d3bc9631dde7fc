"""Description of a chip: settings, presets, aihwkit's configuration, and what is computed of it."""
