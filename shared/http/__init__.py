"""HTTP manners shared by the services: problems, identity, health, and how they are described."""
