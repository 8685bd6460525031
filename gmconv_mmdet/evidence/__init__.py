"""What is to be seen on a machine with a GPU, stage by stage."""
