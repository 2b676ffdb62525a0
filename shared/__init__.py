"""What the three services have in common: the event contract, HTTP manners, and how to reach PostgreSQL and NATS."""
