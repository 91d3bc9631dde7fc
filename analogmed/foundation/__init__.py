"""Files, locks and text: pieces that know nothing of networks, chips or data."""
