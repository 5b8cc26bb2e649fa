"""What worker processes load: our boot files, and the bare libraries' own."""
