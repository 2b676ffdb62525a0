"""What only a deployment in containers can show."""
