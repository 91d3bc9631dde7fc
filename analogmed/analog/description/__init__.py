"""Description of a chip: settings, presets, aihwkit's configuration, and derived values."""
