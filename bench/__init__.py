"""How fast Runroom is, beside floors and peers measured in the same run. ``make bench`` runs it."""
