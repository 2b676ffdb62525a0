"""Who may do what: tokens (RFC 7519) and their keys, the session cookie, and what is required of each route.

The tokens themselves are made and revoked elsewhere: by whoever holds the secret or the private keys.
"""
