"""The command service's HTTP side: request bodies, routes, and how outcomes are answered."""
