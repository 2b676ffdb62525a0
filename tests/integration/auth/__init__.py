"""A whole deployment with authentication on."""
