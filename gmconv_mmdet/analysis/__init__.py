"""What a network looks at: its masks, its effective and its theoretical receptive fields."""
