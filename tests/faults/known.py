"""Cases that do not end as they should yet: name → why. A mended one has to go from here."""

KNOWN: dict[str, str] = {}
