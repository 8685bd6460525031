"""What the positions of every tensor of a network see: fields along an axis, layouts, operators."""
