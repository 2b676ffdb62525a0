"""The query service's HTTP side: parameters, routes, and how they are described."""
