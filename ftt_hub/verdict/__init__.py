"""What is known of a transfer beforehand: exact distances, losses, and how far they predict."""
